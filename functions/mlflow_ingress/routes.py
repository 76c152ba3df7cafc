"""HTTP of `mlflow_ingress`."""

from __future__ import annotations

import flask
import pydantic

from functions.mlflow_ingress import service
from functions.mlflow_ingress.deps import Deps
from fuseml.runtime import http


class Receipt(pydantic.BaseModel):
    """The id of the event that was published, or the reason why the delivery was ignored."""

    event: str | None = None
    ignored: str | None = None


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/webhooks/mlflow/<extension>", returns=Receipt, status=202, public=True, refusals=(401,))
    def receive_mlflow_webhook(extension: str) -> Receipt:
        """Receive a delivery of the tracking server `extension`; its signature and age are checked."""
        event, ignored = service.receive(deps, extension, dict(flask.request.headers), flask.request.get_data())
        return Receipt(event=event, ignored=ignored)
