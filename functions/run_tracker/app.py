"""The application of `run_tracker`."""

from __future__ import annotations

import functools

import flask

from functions.run_tracker import service
from functions.run_tracker.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("run_tracker", "The state of runs", tokens=None)
    hints = cloudevents.Hints(functools.partial(service.facts, deps, service.Reads()), service.track)
    cloudevents.Receiver(api, deps.store, deps.publisher, deps.signer, {f"{events.TEKTON_PREFIX}*": hints})
    return api.app
