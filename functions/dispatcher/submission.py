"""Submission of stored plans to the engine, after the commit. It is idempotent: after a crash the next event or sweep repeats it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from functions.dispatcher.deps import Deps
from fuseml.domain import errors, events, plans
from fuseml.domain.plans import former, identity, replan
from fuseml.domain.runs import FINISHED
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import trace
from fuseml.store import codesets as codeset_store
from fuseml.store import extensions, outbox, runs
from fuseml.usecases import git_access, lifecycle, step_identity


def submit_pending(deps: Deps, event: events.Event) -> None:
    """Begin the runs whose turn has come, submit every pending execution, and pass a cancellation by `event` on to the engine.

    Raises TemporaryError when the engine cannot be reached: the event will be delivered again.
    """
    with deps.store.read() as session:
        waiting = runs.unsubmitted(session)
    for row in waiting:
        # The run may be that of another event: the engine's objects belong to the trace of the event that created it.
        with trace.continued(trace.read(row.trigger)):
            begun = row if row.execution else _begin(deps, row)
            if begun.execution > begun.executed:
                _submit(deps, begun)
    if event.type == events.RunCancelRequested.TYPE:
        # Also when no submission is recorded: another dispatcher may be submitting. Engines accept the cancellation of an unknown run.
        _cancel(deps, event, event.data["reason"])
    elif event.type == events.RunRejected.TYPE:
        _cancel(deps, event, f"step {event.data['step']!r} failed: {event.data['cause']}")


def _cancel(deps: Deps, event: events.Event, reason: str) -> None:
    with deps.store.read() as session:
        row = runs.get(session, event.data["run"])
    # A run that waits for an approval has nothing in the engine, which may be unreachable now.
    if row.execution > row.executed:
        execution = identity.execution_id(row.id, row.execution)
        deps.engine.cancel(execution, reason)
        if row.submitted is not None and row.state not in FINISHED and deps.engine.loss(execution) is not None:
            # The request is stored in the row, so it is the cause of the end.
            lifecycle.end_lost(deps.store, deps.publisher, row, reason)


def _begin(deps: Deps, row: runs.Run) -> runs.Run:
    """Begin a run that had to wait for its turn: request the first approvals, and begin the execution of the steps that need none."""
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        is_waiting = stored.execution == 0 and stored.state == "queued"
        pending = _enqueue(session, lifecycle.advance(session, stored) if is_waiting else [])
    cloudevents.relay(deps.store, deps.publisher, pending)
    return stored


def _enqueue(session: sqlmodel.Session, payloads: Sequence[events.Payload]) -> list[outbox.PendingEvent]:
    moment = clock.now()
    return outbox.add(session, [events.event(payload, moment, trace.outgoing()) for payload in payloads], moment)


def _submit(deps: Deps, row: runs.Run) -> None:
    """Submit the run's current execution. Each part may be repeated: after a crash the next event or sweep begins anew."""
    try:
        execution = _claim(deps, row)
        if execution is None:
            return
        deps.engine.submit(execution, _secrets(deps, execution))
    except errors.PermanentError as error:
        _fail(deps, row, error.message)
        return
    _cancel_late(deps, execution, _record(deps, row))


def _claim(deps: Deps, row: runs.Run) -> plans.Plan | None:
    """The plan of the execution to submit; None when the run has advanced, or another dispatcher has submitted it.

    After a burst of pushes all dispatchers have the same list.
    """
    with deps.store.read() as session:
        stored = runs.get(session, row.name)
        if stored.submitted is not None or not _is_current(stored, row):
            return None
        return _execution(row, runs.steps(session, [row.id]))


def _record(deps: Deps, row: runs.Run) -> str | None:
    """Record that the engine has the execution. Returns the cause of the run's end, if the run has ended meanwhile."""
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        if stored.execution == row.execution:
            runs.mark_submitted(session, stored, clock.now())
        return stored.cause if stored.state in FINISHED else None


def _cancel_late(deps: Deps, execution: plans.Plan, cause: str | None) -> None:
    """Cancel an execution whose run was cancelled during the submission."""
    if cause is not None:
        deps.engine.cancel(execution.id, cause)


def _fail(deps: Deps, row: runs.Run, cause: str) -> None:
    """End a run whose current execution cannot be submitted."""
    with deps.store.write() as session:
        stored = runs.get(session, row.name)
        pending = _enqueue(session, lifecycle.end(session, stored, "failed", cause) if _is_current(stored, row) else [])
    cloudevents.relay(deps.store, deps.publisher, pending)


def _is_current(stored: runs.Run, row: runs.Run) -> bool:
    return stored.state not in FINISHED and stored.execution == row.execution


def _execution(row: runs.Run, steps: Sequence[runs.StepRun]) -> plans.Plan:
    """The plan of the run's current execution."""
    plan = former.with_step_tokens(plans.Plan.model_validate(row.plan))
    names = [step.name for step in steps if step.execution == row.execution and step.reused_from is None]
    succeeded = {
        step.name: replan.StepResult(row.name, step.outputs) for step in steps if step.name not in names and step.state == "succeeded"
    }
    return replan.partition(plan, row.execution, names, succeeded)


def _secrets(deps: Deps, execution: plans.Plan) -> dict[str, str]:
    """The secrets of the plan, with their present values, the tokens of its steps, and the accounts that read its codesets.

    Raises PermanentError when credentials or a codeset were removed since the plan was made; TemporaryError when the git host cannot be
    reached.
    """
    secrets: dict[str, str] = {}
    codesets = {checkout.account: checkout for step in execution.steps for checkout in step.checkouts}
    for checkout in codesets.values() if deps.clones else ():
        with deps.store.read() as session:
            password = git_access.password(deps.keyring, codeset_store.codeset(session, checkout.project, checkout.codeset))
        secrets[checkout.account] = f"{deps.git.grant_push(checkout.project, checkout.codeset, password)}:{password}"
    with deps.store.read() as session:
        for part in plans.secret_refs(execution):
            step = part.token_of
            secrets[part.ref] = (
                step_identity.issue(deps.keyring, execution, step)
                if step is not None
                else deps.keyring.unseal(extensions.sealed_secret(session, part))
            )
    return secrets
