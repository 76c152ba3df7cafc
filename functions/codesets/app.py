"""The application of `codesets`."""

from __future__ import annotations

import flask

from functions.codesets import identity, routes
from functions.codesets.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("codesets", "Projects and their codesets, and the caller", tokens=deps.tokens)
    routes.register(api, deps)
    identity.register(api)
    return api.app
