"""The application of `run_tracker`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.run_tracker import service
from fuseml.domain import events
from fuseml.runtime import cloudevents, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What tracking needs from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("run_tracker", "Keeps the state of runs", tokens=None)
    cloudevents.Receiver(api, deps.store, deps.publisher, {f"{events.TEKTON_PREFIX}*": service.track})
    return api.app
