"""FuseML's own record in the registry: predictor steps resolve `prediction-serving` to it, and on a laptop artifacts their store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseml.domain import application, errors
from fuseml.domain.registry import extension, registry
from fuseml.runtime import clock
from fuseml.store import database, extensions

EXTENSION = "fuseml"


def register(store: database.Database, url: str, apps_url: str = "", services: Sequence[Mapping[str, object]] = ()) -> None:
    """Register the record, or update its address. `url` is the API's for steps; `apps_url` is that of the applications, where it is known
    before they are served. `services` are further ones of this server."""
    configuration = {"FUSEML_API_URL": url, "FUSEML_API_TOKEN": extension.STEP_TOKEN}
    if apps_url:
        configuration["FUSEML_APPS_URL"] = apps_url
    document = {
        "id": EXTENSION,
        "product": "fuseml",
        "description": "FuseML itself: serves models as applications",
        "services": [
            {
                "id": "serving",
                "resource": application.BUILT_IN,
                "category": "prediction-serving",
                "endpoints": [{"url": url, "type": "internal", "configuration": configuration}],
            },
            *services,
        ],
    }
    record = extension.Extension.model_validate(document)
    with store.write() as session:
        try:
            registered = extensions.get(session, EXTENSION)
        except errors.NotFoundError:
            registered = None
        now = clock.now()
        # With the ids of their owners in all parts, as every registered record: clients of the original's API refuse a part without.
        current = registry.create(record, now, lambda prefix: prefix)
        if registered is None:
            extensions.add(session, current, now)
        elif _parts(registered) != _parts(current):
            since = current.status.model_copy(update={"registered": registered.status.registered or now})
            extensions.replace(session, current.model_copy(update={"revision": registered.revision + 1, "status": since}), now)


def _parts(record: extension.Extension) -> list[object]:
    """The endpoints and credentials of a record: former releases registered a permanent token, or parts without the ids of their owners."""
    return [
        (
            (service.id, service.extension_id),
            [(endpoint.url, endpoint.service_id, endpoint.configuration) for endpoint in service.endpoints],
            [item.id for item in service.credentials],
        )
        for service in record.services
    ]
