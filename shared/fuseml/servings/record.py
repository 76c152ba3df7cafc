"""FuseML's own record in the registry: predictor steps resolve `prediction-serving` to it."""

from __future__ import annotations

from fuseml.domain import application, errors
from fuseml.domain.registry import extension
from fuseml.runtime import clock, secrets
from fuseml.store import database, extensions

EXTENSION = "fuseml"
WORKLOAD_TOKEN = "token:workload"  # noqa: S105 - a purpose, no token
"""The purpose under which the token of steps is derived from the keys."""


def register(store: database.Database, keyring: secrets.Keyring, url: str, apps_url: str = "") -> None:
    """Register the record, or update its address. `url` is the API's for steps; `apps_url` is that of the applications, where it is known
    before they are served."""
    configuration = {"FUSEML_API_URL": url, "FUSEML_APPS_URL": apps_url} if apps_url else {"FUSEML_API_URL": url}
    document = {
        "id": EXTENSION,
        "product": "fuseml",
        "description": "FuseML itself: serves models as applications",
        "services": [
            {
                "id": "serving",
                "resource": application.BUILT_IN,
                "category": "prediction-serving",
                "auth_required": True,
                "endpoints": [{"url": url, "type": "internal", "configuration": configuration}],
                "credentials": [
                    {"id": "workload", "scope": "global", "configuration": {"FUSEML_API_TOKEN": keyring.derive(WORKLOAD_TOKEN)}}
                ],
            }
        ],
    }
    record = extension.Extension.model_validate(document)
    with store.write() as session:
        try:
            registered = extensions.get(session, EXTENSION)
        except errors.NotFoundError:
            registered = None
        if registered is not None and [e.url for service in registered.services for e in service.endpoints] == [url]:
            return
        now = clock.now()
        revision = registered.revision + 1 if registered else 1
        sealed = extension.map_secrets(record, keyring.seal).model_copy(update={"revision": revision})
        if registered is None:
            extensions.add(session, sealed, now)
        else:
            extensions.replace(session, sealed, now)
