"""HTTP of `mlflow_ingress`."""

from __future__ import annotations

import flask
import pydantic

from functions.mlflow_ingress import service
from functions.mlflow_ingress.deps import Deps
from fuseml.runtime import http


class Received(pydantic.BaseModel):
    """The event that the delivery became, or why it was ignored."""

    event: str | None = None
    ignored: str | None = None


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/webhooks/mlflow/<extension>", returns=Received, status=202, public=True)
    def receive_mlflow_webhook(extension: str) -> Received:
        """Take a delivery of the tracking server that is registered as `extension`; signature and age are checked."""
        event, ignored = service.receive(deps, extension, dict(flask.request.headers), flask.request.get_data())
        return Received(event=event, ignored=ignored)
