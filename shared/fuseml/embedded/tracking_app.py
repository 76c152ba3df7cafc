"""MLflow's application behind a key: only the FuseML server that started this process gets an answer.

MLflow loads it by name (`mlflow server --app-name fuseml`, entry point `mlflow.app`), in its own process.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY_VARIABLE = "FUSEML_TRACKING_KEY"
KEY_HEADER = "x-fuseml-key"

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_REFUSAL = b'{"error_code": "UNAUTHENTICATED", "message": "this port is for the FuseML server only: use its address, /mlflow/"}\n'


def create_app() -> Application:
    """The guarded application. Raises KeyError without the key."""
    # Out of the environment: neither MLflow nor a process that it starts needs it.
    key = os.environ.pop(KEY_VARIABLE)
    from mlflow.server.fastapi_app import app

    return guarded(app, key)


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
