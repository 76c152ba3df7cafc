"""The server's own record in the registry: where predictor steps find the model servers of this process."""

from __future__ import annotations

from fuseml.domain import errors, extension
from fuseml.runtime import clock, secrets
from fuseml.store import database, extensions

EXTENSION = "fuseml"


def register(store: database.Database, keyring: secrets.Keyring, url: str, workload_token: str) -> None:
    """Put the record into the registry, or bring its address up to date."""
    document = {
        "id": EXTENSION,
        "product": "fuseml",
        "description": "The model servers of the embedded FuseML server",
        "services": [
            {
                "id": "serving",
                "resource": "fuseml-serving",
                "category": "prediction-serving",
                "auth_required": True,
                "endpoints": [{"url": url, "type": "internal", "configuration": {"FUSEML_API_URL": url, "FUSEML_APPS_URL": f"{url}/apps"}}],
                "credentials": [{"id": "workload", "scope": "global", "configuration": {"FUSEML_API_TOKEN": workload_token}}],
            }
        ],
    }
    record = extension.Extension.model_validate(document)
    with store.write() as session:
        try:
            known = extensions.get(session, EXTENSION)
        except errors.NotFoundError:
            known = None
        if known is not None and [e.url for service in known.services for e in service.endpoints] == [url]:
            return
        now = clock.now()
        revision = known.revision + 1 if known else 1
        sealed = extension.map_secrets(record, keyring.seal).model_copy(update={"revision": revision})
        if known is None:
            extensions.add(session, sealed, now)
        else:
            extensions.replace(session, sealed, now)
