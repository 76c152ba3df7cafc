"""The application of `housekeeper`."""

from __future__ import annotations

import functools

import flask

from functions.housekeeper import datasets, service
from functions.housekeeper.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("housekeeper", "The periodic sweep", tokens=None, store=deps.store)
    # Most handlers have no effect: the sweep and the repairs run after them, each with its own transactions.
    cloudevents.Receiver(
        api,
        deps.store,
        deps.publisher,
        deps.signer,
        {
            events.TICK: cloudevents.nothing,
            events.ModelAliased.TYPE: cloudevents.nothing,
            events.ModelRegistered.TYPE: cloudevents.nothing,
            events.CodesetReported.TYPE: cloudevents.nothing,
            events.RunCreated.TYPE: cloudevents.nothing,
            events.RunStarted.TYPE: cloudevents.nothing,
            events.RunFinished.TYPE: cloudevents.nothing,
            events.CodesetPushed.TYPE: cloudevents.Informed(functools.partial(datasets.look_at_push, deps), datasets.record_pushed),
        },
        after=functools.partial(service.on_event, deps),
    )
    return api.app
