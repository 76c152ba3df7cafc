"""The application of `resolver`."""

from __future__ import annotations

import flask

from functions.resolver import routes
from functions.resolver.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("resolver", "Resolution of selectors", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
