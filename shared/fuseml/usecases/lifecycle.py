"""The lifecycle of stored runs: observations of engines and decisions of people are applied to the rows; the result is the events to publish.

A fact and its consequences are one transaction, so that a process that dies leaves both or neither. The submission of an execution comes
after it, and is repeated until it succeeds (functions/dispatcher).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pydantic
import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED, Observation, State, approval, lifecycle
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import metrics
from fuseml.store import database, runs

_STEPS = pydantic.TypeAdapter(tuple[plans.StepPlan, ...], config=pydantic.ConfigDict(defer_build=True))

_Change = Callable[[lifecycle.Lifecycle, lifecycle.Steps], lifecycle.Lifecycle]


def apply_observation(session: sqlmodel.Session, row: runs.Run, observation: Observation) -> list[events.Payload]:
    """Apply an observation of an engine. When a new execution begins, `run.requested` causes its submission."""
    number = row.execution
    payloads = _apply(session, row, _affected(observation), lambda current, steps: lifecycle.observe(current, steps, observation))
    if row.execution > number:
        payloads.append(events.RunRequested(request=identity.execution_id(row.name, row.execution), run=row.name))
    return payloads


def would_change(session: sqlmodel.Session, row: runs.Run, observation: Observation) -> bool:
    """Whether the observation would change the run or a step."""
    steps = _steps_with_approvals(row)
    before = runs.lifecycle_of(session, row, [step.name for step in steps] or _affected(observation))
    return lifecycle.settle(lifecycle.observe(before, steps, observation), steps, clock.now()) != before


def advance(session: sqlmodel.Session, row: runs.Run) -> list[events.Payload]:
    """Apply the consequences of the stored facts: request approvals, begin an execution, end the run."""
    return _apply(session, row, (), lambda current, _: current)


def record_decision(
    session: sqlmodel.Session, row: runs.Run, step: str | None, decision: approval.Decision, *, by: str | None = None, comment: str = ""
) -> events.Payload:
    """Record the decision on `step`, or on the only step that waits. The consumer of the event applies the consequences.

    Raises ConflictError when no step waits for it, NotFoundError for an unknown step, InvalidError when several steps wait.
    """
    try:
        current = runs.lifecycle_of(session, row, [item.name for item in runs.steps(session, [row.id]) if item.reused_from is None])
        name, after = lifecycle.decide(current, step, decision, by=by, comment=comment, now=clock.now())
    except errors.ConflictError as error:
        raise errors.ConflictError(f"run {row.name}: {error.message}") from None
    runs.record_lifecycle(session, row, after)
    decided = after.steps[name].approval
    if decided is not None and decided.refusal is not None:
        return events.RunRejected(run=row.name, step=name, by=by, comment=comment, cause=decided.refusal)
    return events.RunApproved(run=row.name, step=name, by=by or "", comment=comment)


def end(session: sqlmodel.Session, row: runs.Run, state: State, cause: str) -> list[events.Payload]:
    """Finish a run that no engine will report on."""
    current = runs.lifecycle_of(session, row)
    runs.record_lifecycle(session, row, lifecycle.stop(current, state, cause, clock.now()))
    return [finished_event(session, row)]


def end_lost(store: database.Database, publisher: cloudevents.Publisher, row: runs.Run, cause: str) -> None:
    """End a run whose current execution the engine no longer has, and publish its end: as cancelled if that was requested, else as failed.

    `row` is the run as it was read before the engine was asked. A run that has ended since, or has another execution, stays as it is.
    """
    with store.write() as session:
        stored = runs.get(session, row.name)
        is_same = stored.execution == row.execution and stored.submitted == row.submitted and stored.submitted is not None
        payloads: list[events.Payload] = []
        if is_same and stored.state not in FINISHED and stored.execution > stored.executed:
            state: State = "failed" if stored.cancelled is None else "cancelled"
            payloads = end(session, stored, state, stored.cancelled or cause)
        enqueued = cloudevents.enqueue(session, *payloads)
    cloudevents.relay(store, publisher, enqueued)


def is_late(step: runs.StepRun) -> bool:
    """Whether the deadline of the step's approval has passed without a decision."""
    return step.approval is not None and approval.Approval.model_validate(step.approval).is_late(clock.now())


def _affected(observation: Observation) -> Sequence[str] | None:
    """The steps that an observation can change in a run without approvals; None for all of them, which the end of the run settles."""
    if observation.step is not None:
        return [observation.step]
    return None if observation.state in FINISHED else observation.skipped


def _apply(session: sqlmodel.Session, row: runs.Run, affected: Sequence[str] | None, change: _Change) -> list[events.Payload]:
    steps = _steps_with_approvals(row)
    before = runs.lifecycle_of(session, row, [step.name for step in steps] or affected)
    after = lifecycle.settle(change(before, steps), steps, clock.now())
    runs.record_lifecycle(session, row, after)
    return list(_resulting_events(session, row, before, after))


def _steps_with_approvals(row: runs.Run) -> lifecycle.Steps:
    """The steps of a plan with approvals, where every step may change; none of another plan."""
    documents = row.plan["steps"] if row.plan else []
    return _STEPS.validate_python(documents) if any(item.get("approval") for item in documents) else ()


def _resulting_events(
    session: sqlmodel.Session, row: runs.Run, before: lifecycle.Lifecycle, after: lifecycle.Lifecycle
) -> Iterator[events.Payload]:
    # A run that began with an approval has been waiting before it starts.
    if before.run.started is None and after.run.started is not None and after.run.state not in FINISHED:
        yield events.RunStarted(run=row.name, workflow=row.workflow, project=row.project)
    for name, step in after.steps.items():
        now, earlier = step.progress, before.steps[name].progress
        if now.is_final and not earlier.is_final:
            yield events.RunStepFinished(
                run=row.name,
                workflow=row.workflow,
                project=row.project,
                step=name,
                state=now.state,
                cause=now.cause,
                outputs=dict(now.outputs),
            )
        elif step.approval is not None and before.steps[name].approval is None:
            yield events.RunApprovalRequested(
                run=row.name,
                workflow=row.workflow,
                project=row.project,
                step=name,
                message=step.approval.message,
                deadline=step.approval.deadline,
            )
    if after.run.state in FINISHED and before.run.state not in FINISHED:
        yield finished_event(session, row)


def finished_event(session: sqlmodel.Session, row: runs.Run) -> events.RunFinished:
    """The event of a run that has just ended with the state of its row. Counts the run in the metrics."""
    metrics.run_finished(session, row)
    state = "succeeded" if row.state == "succeeded" else "cancelled" if row.state == "cancelled" else "failed"
    return events.RunFinished(
        run=row.name,
        workflow=row.workflow,
        project=row.project,
        codeset=row.codeset,
        commit=row.commit,
        state=state,
        cause=row.cause,
        outputs=row.outputs,
    )
