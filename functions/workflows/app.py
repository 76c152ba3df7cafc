"""The application of `workflows`."""

from __future__ import annotations

import flask

from functions.workflows import routes
from functions.workflows.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("workflows", "Workflows, their revisions and assignments", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
