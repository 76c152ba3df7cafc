"""The application of `artifacts`."""

from __future__ import annotations

import flask

from functions.artifacts import routes, service
from functions.artifacts.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("artifacts", "Artifacts and their lineage", tokens=deps.tokens)
    routes.register(api, deps)
    cloudevents.Receiver(
        api,
        deps.store,
        deps.publisher,
        deps.signer,
        {
            events.CodesetPushed.TYPE: service.on_codeset_pushed,
            events.ModelRegistered.TYPE: service.on_model_registered,
            events.ModelTagged.TYPE: service.on_model_tagged,
            events.RunStepFinished.TYPE: service.on_step_finished,
        },
    )
    return api.app
