"""The application of `artifacts`."""

from __future__ import annotations

from dataclasses import dataclass

import flask

from functions.artifacts import routes, service
from fuseml.domain import events
from fuseml.runtime import auth, cloudevents, http
from fuseml.store import database


@dataclass(frozen=True, kw_only=True)
class Deps:
    """What artifacts need from the outside."""

    store: database.Database
    publisher: cloudevents.Publisher
    tokens: auth.Tokens


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("artifacts", "Artifacts and their lineage", tokens=deps.tokens)
    routes.register(api, deps)
    cloudevents.Receiver(
        api,
        deps.store,
        deps.publisher,
        {
            events.CodesetPushed.TYPE: service.on_codeset_pushed,
            events.ModelRegistered.TYPE: service.on_model_registered,
            events.RunStepFinished.TYPE: service.on_step_finished,
        },
    )
    return api.app
