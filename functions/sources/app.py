"""The application of `sources`."""

from __future__ import annotations

import functools

import flask

from functions.sources import receiving, routes
from functions.sources.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("sources", "Sources: repositories that the registry and the workflows follow", tokens=deps.tokens)
    routes.register(api, deps)
    cloudevents.Receiver(
        api,
        deps.store,
        deps.publisher,
        deps.signer,
        {
            # The sweep runs after it, with transactions of its own.
            events.TICK: cloudevents.nothing,
            events.CodesetPushed.TYPE: cloudevents.Informed(
                functools.partial(receiving.look_at_push, deps), functools.partial(receiving.settle_push, deps)
            ),
        },
        after=functools.partial(receiving.on_tick, deps),
    )
    return api.app
