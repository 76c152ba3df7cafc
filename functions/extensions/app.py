"""The application of `extensions`."""

from __future__ import annotations

import flask

from functions.extensions import routes
from functions.extensions.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("extensions", "The extension registry", tokens=deps.tokens)
    # A path may hold the URL of an endpoint, whose `//` must stay.
    api.app.url_map.merge_slashes = False
    routes.register(api, deps)
    return api.app
