"""The application of `dispatcher`."""

from __future__ import annotations

import functools

import flask

from functions.dispatcher import service, submission
from functions.dispatcher.deps import Deps
from fuseml.domain import events
from fuseml.runtime import cloudevents, http


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("dispatcher", "The start of runs", tokens=None)
    cloudevents.Receiver(
        api,
        deps.store,
        deps.publisher,
        deps.signer,
        {
            events.CodesetPushed.TYPE: functools.partial(service.on_codeset_pushed, deps),
            events.WorkflowAssigned.TYPE: functools.partial(service.on_workflow_assigned, deps),
            events.ArtifactRecorded.TYPE: functools.partial(service.on_artifact_recorded, deps),
            events.ExtensionRegistered.TYPE: functools.partial(service.on_extension_changed, deps),
            events.ExtensionUpdated.TYPE: functools.partial(service.on_extension_changed, deps),
            events.ScheduleReached.TYPE: functools.partial(service.on_schedule_reached, deps),
            events.RunRequested.TYPE: functools.partial(service.on_run_requested, deps),
            events.RunCancelRequested.TYPE: service.on_cancel_requested,
            # No handler: the runs that waited for this one are submitted after the commit, as after every event.
            events.RunFinished.TYPE: lambda *_: (),
            events.CodesetRemoved.TYPE: service.on_codeset_removed,
            events.RunApproved.TYPE: service.on_decided,
            events.RunRejected.TYPE: service.on_decided,
        },
        after=functools.partial(submission.submit_pending, deps),
    )
    return api.app
