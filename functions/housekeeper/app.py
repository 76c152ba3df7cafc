"""The application of `housekeeper`."""

from __future__ import annotations

import functools

import flask

from functions.housekeeper import service
from functions.housekeeper.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("housekeeper", "The periodic sweep", tokens=None, store=deps.store)
    # The handler of the tick has no effect: the sweep runs after it, and each repair has its own transactions.
    cloudevents.Receiver(
        api, deps.store, deps.publisher, deps.signer, {events.TICK: cloudevents.nothing}, after=functools.partial(service.on_tick, deps)
    )
    return api.app
