"""The application of `events`."""

from __future__ import annotations

import flask

from functions.events import recording, routes
from functions.events.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("events", "The ledger of events", tokens=deps.tokens)
    routes.register(api, deps)
    recording.register(api, deps.store, deps.signer)
    return api.app
