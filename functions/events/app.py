"""The application of `events`."""

from __future__ import annotations

import flask

from functions.events import recording, routes
from functions.events.deps import Deps
from fuseml.runtime import http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("events", "The ledger of events", tokens=deps.tokens)
    # Ids of events hold addresses such as model://demo/diabetes/1, with both slashes.
    api.app.url_map.merge_slashes = False
    routes.register(api, deps)
    recording.register(api, deps.store)
    return api.app
