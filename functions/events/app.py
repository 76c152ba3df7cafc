"""The application of `events`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.events import recording, routes
from fuseml.runtime import auth, cloudevents, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What the ledger needs from the outside. `queued`: the deliveries in the store are the broker's queue, as in the embedded server."""

    store: database.Database
    publisher: cloudevents.Publisher
    tokens: auth.Tokens
    queued: bool = False


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("events", "The ledger of events", tokens=deps.tokens)
    # Ids of events hold addresses such as model://demo/diabetes/1; no slash of them may get lost.
    api.app.url_map.merge_slashes = False
    routes.register(api, deps)
    recording.register(api, deps.store)
    return api.app
