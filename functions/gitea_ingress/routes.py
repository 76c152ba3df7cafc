"""HTTP of `gitea_ingress`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import flask
import pydantic
import werkzeug.exceptions

from functions.gitea_ingress import origins, service
from functions.gitea_ingress.deps import Deps
from fuseml.domain import errors
from fuseml.runtime import http
from fuseml.webhooks import gitea


class Receipt(pydantic.BaseModel):
    """The id of the event that was published, or the reason why the delivery was ignored."""

    event: str | None = None
    ignored: str | None = None


# Git hosts can send forms, too; the refusal of a form belongs to the recorded decisions about deliveries.
_MEDIA = ("application/x-www-form-urlencoded",)


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/webhooks/gitea", returns=Receipt, status=202, public=True, media=_MEDIA, refusals=(401,))
    def receive_git_webhook() -> Receipt:
        """Receive a delivery of a git host; its signature must fit the codeset's webhook secret."""
        with _bounded():
            event, ignored = service.receive(deps, dict(flask.request.headers), flask.request.stream)
        return Receipt(event=event, ignored=ignored)

    @api.route("POST", "/webhooks/git/<project>/<codeset>", returns=Receipt, status=202, public=True, media=_MEDIA, refusals=(401,))
    def receive_origin_webhook(project: str, codeset: str) -> Receipt:
        """Receive a delivery of the host of a codeset's origin; its proof must fit the secret of the origin's webhook."""
        with _bounded():
            event, ignored = origins.receive(deps, project, codeset, dict(flask.request.headers), flask.request.stream)
        return Receipt(event=event, ignored=ignored)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    flask.request.max_content_length = gitea.MAX_BODY
    try:
        yield
    except werkzeug.exceptions.RequestEntityTooLarge as error:
        raise errors.TooLargeError(f"the delivery is larger than {gitea.MAX_BODY} bytes, the most that git hosts send") from error
