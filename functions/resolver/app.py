"""The application of `resolver`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.resolver import routes
from fuseml.runtime import auth, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What resolution needs from the outside. `zone` is the control plane's own."""

    store: database.Database
    tokens: auth.Tokens
    zone: str


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("resolver", "From selectors to bindings", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
