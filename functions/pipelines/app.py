"""The application of `pipelines`."""

from __future__ import annotations

import flask

from functions.pipelines import routes
from functions.pipelines.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("pipelines", "Pipelines of runnables, and catalogues of templates", tokens=deps.tokens)
    routes.register(api, deps)
    return api.app
