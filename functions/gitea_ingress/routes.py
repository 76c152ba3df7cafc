"""HTTP of `gitea_ingress`."""

from __future__ import annotations

import flask
import pydantic

from functions.gitea_ingress import service
from functions.gitea_ingress.deps import Deps
from fuseml.runtime import http


class Receipt(pydantic.BaseModel):
    """The id of the event that was published, or the reason why the delivery was ignored."""

    event: str | None = None
    ignored: str | None = None


# Git hosts can send forms, too; the refusal of a form belongs to the recorded decisions about deliveries.
_MEDIA = ("application/x-www-form-urlencoded",)


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/webhooks/gitea", returns=Receipt, status=202, public=True, media=_MEDIA)
    def receive_git_webhook() -> Receipt:
        """Receive a delivery of a git host; its signature must fit the codeset's webhook secret."""
        event, ignored = service.receive(deps, dict(flask.request.headers), flask.request.get_data())
        return Receipt(event=event, ignored=ignored)
