"""The application of `gitea_ingress`."""

from __future__ import annotations

import flask

from functions.gitea_ingress import routes
from functions.gitea_ingress.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application. No tokens: a webhook proves itself by its signature."""
    api = http.Api("gitea_ingress", "Webhooks of git hosts", tokens=None)
    routes.register(api, deps)
    return api.app
