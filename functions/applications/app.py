"""The application of `applications`."""

from __future__ import annotations

import flask

from functions.applications import routes
from functions.applications.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("applications", "Applications that serve models", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
