"""The application of `artifacts`."""

from __future__ import annotations

import functools

import flask

from functions.artifacts import collected, recording, routes
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
            events.CodesetPushed.TYPE: recording.on_codeset_pushed,
            events.ModelRegistered.TYPE: recording.on_model_registered,
            events.ModelTagged.TYPE: recording.on_model_tagged,
            events.RunStepFinished.TYPE: cloudevents.Informed(functools.partial(collected.of_step, deps), recording.on_step_finished),
        },
    )
    return api.app
