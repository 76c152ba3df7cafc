"""Handing stored plans to the engine, after the commit. Idempotent: a crash in between is made good by the next event or sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.dispatcher import creation
from fuseml.domain import errors, events, plan, run
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import trace
from fuseml.store import extensions, outbox, runs, tables

if TYPE_CHECKING:
    from functions.dispatcher.app import Deps


def make_good(deps: Deps, event: events.Event) -> None:
    """Submit every stored run that the engine has not got, and pass on what `event` asks of the engine.

    Raises TemporaryError when the engine cannot be reached: the event will be delivered again.
    """
    with deps.store.read() as session:
        waiting = runs.unsubmitted(session)
    for row in waiting:
        # It may be another event's run: the engine's objects belong to the trace of the one that made it.
        with trace.continued(trace.read(row.trigger)):
            _submit(deps, row)
    if event.type == events.RunCancelRequested.TYPE:
        requested = events.RunCancelRequested.model_validate(event.data)
        with deps.store.read() as session:
            row = runs.get(session, requested.run)
        # Also when no submission is recorded: another dispatcher may be in the middle of one. An unknown run is no matter to an engine.
        deps.engine.cancel(row.id, requested.reason)


def _submit(deps: Deps, row: tables.Run) -> None:
    submitted = plan.Plan.model_validate(row.plan)
    try:
        deps.engine.submit(submitted, _secrets(deps, submitted))
    except errors.PermanentError as error:
        with deps.store.write() as session:
            stored = runs.get(session, row.name)
            moment = clock.now()
            announced = creation.end(session, stored, "failed", error.message)
            outbox.add(session, [events.event(payload, moment, trace.outgoing()) for payload in announced], moment)
        cloudevents.relay(deps.store, deps.publisher)
        return
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        stored.submitted = clock.now()
        session.add(stored)
        ended = stored.cause if stored.state in run.FINISHED else None
    if ended is not None:
        # It was cancelled while it was handed over.
        deps.engine.cancel(row.id, ended)


def _secrets(deps: Deps, submitted: plan.Plan) -> dict[str, str]:
    """The secrets that the plan names, read now: a key that was rotated since the plan was made counts.

    Raises PermanentError when credentials have vanished since.
    """
    found: dict[str, str] = {}
    with deps.store.read() as session:
        for part in plan.secret_refs(submitted):
            found[part.ref] = deps.keyring.unseal(extensions.sealed_secret(session, part))
    return found
