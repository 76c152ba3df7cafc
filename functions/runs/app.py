"""The application of `runs`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.runs import routes
from fuseml import contents, engines
from fuseml.runtime import auth, cloudevents, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What reading and steering runs needs from the outside. `zone` is where the engine runs its steps, `contents` where logs stay."""

    store: database.Database
    publisher: cloudevents.Publisher
    engine: engines.Engine
    tokens: auth.Tokens
    public_url: str
    zone: str
    namespace: str
    contents: contents.Contents | None = None


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("runs", "Runs and their logs", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
