"""Handing stored plans to the engine, after the commit. Idempotent: a crash in between is made good by the next event or sweep."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from functions.dispatcher.deps import Deps
from fuseml.domain import errors, events, plans
from fuseml.domain.plans import identity, replan
from fuseml.domain.runs import FINISHED
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import trace
from fuseml.store import extensions, outbox, runs
from fuseml.usecases import lifecycle


def submit_pending(deps: Deps, event: events.Event) -> None:
    """Begin the runs whose turn has come, submit every stored execution that the engine has not got, and pass on what `event` asks of it.

    Raises TemporaryError when the engine cannot be reached: the event will be delivered again.
    """
    with deps.store.read() as session:
        waiting = runs.unsubmitted(session)
    for row in waiting:
        # It may be another event's run: the engine's objects belong to the trace of the one that made it.
        with trace.continued(trace.read(row.trigger)):
            begun = row if row.execution else _begin(deps, row)
            if begun.execution > begun.executed:
                _submit(deps, begun)
    if event.type == events.RunCancelRequested.TYPE:
        # Also when no submission is recorded: another dispatcher may be in the middle of one. An unknown run is no matter to an engine.
        _cancel(deps, event, event.data["reason"])
    elif event.type == events.RunRejected.TYPE:
        _cancel(deps, event, f"step {event.data['step']!r} failed: {event.data['cause']}")


def _cancel(deps: Deps, event: events.Event, reason: str) -> None:
    with deps.store.read() as session:
        row = runs.get(session, event.data["run"])
    # A run that waits for people is over without the engine, which may be away now.
    if row.execution > row.executed:
        deps.engine.cancel(identity.execution_id(row.id, row.execution), reason)


def _begin(deps: Deps, row: runs.Run) -> runs.Run:
    """Ask for the first steps of a run that had to wait for its turn, and begin with those that need no approval."""
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        waits = stored.execution == 0 and stored.state == "queued"
        announced = _announce(session, lifecycle.advance(session, stored) if waits else [])
    cloudevents.relay(deps.store, deps.publisher, announced)
    return stored


def _announce(session: sqlmodel.Session, payloads: Sequence[events.Payload]) -> list[outbox.Waiting]:
    moment = clock.now()
    return outbox.add(session, [events.event(payload, moment, trace.outgoing()) for payload in payloads], moment)


def _submit(deps: Deps, row: runs.Run) -> None:
    try:
        with deps.store.read() as session:
            now = runs.get(session, row.name)
            if now.submitted is not None or now.execution != row.execution or now.state in FINISHED:
                # Another dispatcher has seen to it: after a burst of pushes all of them hold the same list.
                return
            submitted = _execution(row, runs.steps(session, [row.id]))
        deps.engine.submit(submitted, _secrets(deps, submitted))
    except errors.PermanentError as error:
        with deps.store.write() as session:
            stored = runs.get(session, row.name)
            open_still = stored.state not in FINISHED and stored.execution == row.execution
            announced = _announce(session, lifecycle.end(session, stored, "failed", error.message) if open_still else [])
        cloudevents.relay(deps.store, deps.publisher, announced)
        return
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        if stored.execution == row.execution:
            runs.mark_submitted(session, stored, clock.now())
        ended = stored.cause if stored.state in FINISHED else None
    if ended is not None:
        # It was cancelled while it was handed over.
        deps.engine.cancel(submitted.id, ended)


def _execution(row: runs.Run, steps: Sequence[runs.StepRun]) -> plans.Plan:
    """The part of the run's plan that is next."""
    planned = plans.Plan.model_validate(row.plan)
    wanted = [step.name for step in steps if step.execution == row.execution and step.reused_from is None]
    succeeded = {
        step.name: replan.StepResult(row.name, step.outputs) for step in steps if step.name not in wanted and step.state == "succeeded"
    }
    return replan.partition(planned, row.execution, wanted, succeeded)


def _secrets(deps: Deps, submitted: plans.Plan) -> dict[str, str]:
    """The secrets that the plan names, read now: a key that was rotated since the plan was made counts. And who may read its codesets.

    Raises PermanentError when credentials, or a codeset, have vanished since; TemporaryError when the git host cannot be reached.
    """
    found: dict[str, str] = {}
    codesets = {checkout.account: checkout for step in submitted.steps for checkout in step.checkouts}
    for checkout in codesets.values() if deps.clones else ():
        password = deps.keyring.git_password(checkout.project, checkout.codeset)
        found[checkout.account] = f"{deps.git.grant_push(checkout.project, checkout.codeset, password)}:{password}"
    with deps.store.read() as session:
        for part in plans.secret_refs(submitted):
            found[part.ref] = deps.keyring.unseal(extensions.sealed_secret(session, part))
    return found
