"""MLflow's application behind a key: only the FuseML server that started this process gets an answer.

A program: `python -m fuseml.embedded.tracking_app SOCKET`, with `options` in its environment. `mlflow server` imports all of MLflow in two
processes, one after the other, of which the first only waits for the second; this is one process, ready in half of the time.
"""

from __future__ import annotations

import hmac
import os
import sys
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fuseml.steps import loading

KEY_VARIABLE = "FUSEML_TRACKING_KEY"
KEY_HEADER = "x-fuseml-key"

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_REFUSAL = b'{"error_code": "UNAUTHENTICATED", "message": "this port is for the FuseML server only: use its address, /mlflow/"}\n'


def options(database: str, artifacts: Path, prefix: str) -> dict[str, str]:
    """The variables of a server on this database, which keeps the files of artifacts in a folder, and whose routes begin with `prefix`.

    They are those that `mlflow server` sets for its second process (infra/platform-facts.md 1.7).
    """
    return {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_STATIC_PREFIX": prefix,
        "_MLFLOW_SGI_NAME": "uvicorn",
        # Never code of a client, whatever the environment of this server says.
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
        "MLFLOW_ENABLE_WORKSPACES": "false",
    }


def main() -> None:
    """Serve at the socket file until SIGTERM."""
    # Out of the environment: neither MLflow nor a process that it starts needs it.
    key = os.environ.pop(KEY_VARIABLE)
    with loading.kept():
        # First: MLflow looks whether it is imported, and protects only a server.
        import uvicorn
        from mlflow import server
        from mlflow.server.fastapi_app import app
        from mlflow.server.handlers import initialize_backend_stores

        # Before the first request, which would otherwise wait for the tables.
        initialize_backend_stores()
    log_settings = Path(server.__file__).with_name("uvicorn_log_config.yaml")
    uvicorn.run(guarded(app, key), uds=sys.argv[1], log_config=str(log_settings))


def guarded(application: Application, key: str) -> Application:
    """The application for requests with the key; others get 401 before their body is read."""

    async def wrapped(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "lifespan" or _has_key(scope, key):
            await application(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
        else:
            await send({"type": "websocket.close", "code": 1008})

    return wrapped


def _has_key(scope: Scope, key: str) -> bool:
    given = [value for name, value in scope.get("headers", ()) if name == KEY_HEADER.encode()]
    return len(given) == 1 and hmac.compare_digest(given[0], key.encode())


if __name__ == "__main__":
    main()
