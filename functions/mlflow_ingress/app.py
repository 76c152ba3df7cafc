"""The application of `mlflow_ingress`."""

from __future__ import annotations

import flask

from functions.mlflow_ingress import routes
from functions.mlflow_ingress.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application. No tokens: a webhook proves itself by its signature."""
    api = http.Api("mlflow_ingress", "Webhooks of tracking servers", tokens=None)
    routes.register(api, deps)
    return api.app
