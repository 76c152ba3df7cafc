"""The application of `runnables`."""

from __future__ import annotations

import flask

from functions.runnables import routes
from functions.runnables.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("runnables", "Runnables, the reusable steps of workflows", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
