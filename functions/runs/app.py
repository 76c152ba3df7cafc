"""The application of `runs`."""

from __future__ import annotations

import flask

from functions.runs import routes
from functions.runs.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("runs", "Runs and their logs", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
