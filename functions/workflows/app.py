"""The application of `workflows`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.workflows import routes
from fuseml import githosts
from fuseml.runtime import auth, cloudevents, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What workflows need from the outside. `zone` is where the engine runs its steps."""

    store: database.Database
    publisher: cloudevents.Publisher
    git: githosts.GitHost
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("workflows", "Workflows and what they are assigned to", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
