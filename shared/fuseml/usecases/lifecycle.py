"""How a stored run goes on: what an engine saw, or what a person answered, applied to its rows, and what that announces.

A fact and what follows from it are one transaction, so a process that dies leaves both or neither. Handing an execution to the engine
comes afterwards, and is made good by whoever comes next (functions/dispatcher).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pydantic
import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED, Observation, State, approval, lifecycle
from fuseml.runtime import clock
from fuseml.runtime.telemetry import metrics
from fuseml.store import runs

_STEPS = pydantic.TypeAdapter(tuple[plans.StepPlan, ...], config=pydantic.ConfigDict(defer_build=True))

_Change = Callable[[lifecycle.Lifecycle, lifecycle.Planned], lifecycle.Lifecycle]


def apply_observation(session: sqlmodel.Session, row: runs.Run, seen: Observation) -> list[events.Payload]:
    """Apply what an engine saw of the run. When a new execution follows from it, `run.requested` has it submitted."""
    number = row.execution
    # In a run that asks nobody only the steps that the observation names can change; its end settles all of them.
    named = None if seen.step is None and seen.state in FINISHED else [seen.step] if seen.step is not None else seen.skipped
    announced = _applied(session, row, named, lambda current, planned: lifecycle.observe(current, planned, seen))
    if row.execution > number:
        announced.append(events.RunRequested(request=identity.execution_id(row.name, row.execution), run=row.name))
    return announced


def advance(session: sqlmodel.Session, row: runs.Run) -> list[events.Payload]:
    """Draw the consequences of what is stored: ask for steps, begin an execution, end the run."""
    return _applied(session, row, (), lambda current, _: current)


def record_decision(
    session: sqlmodel.Session, row: runs.Run, step: str | None, decision: approval.Decision, *, by: str | None = None, comment: str = ""
) -> events.Payload:
    """Record the answer for `step`, or for the only step that waits. What follows from it, follows from the event.

    Raises ConflictError when nothing waits for this answer, NotFoundError for an unknown step, InvalidError when several steps wait.
    """
    try:
        current = runs.lifecycle_of(session, row, [item.name for item in runs.steps(session, [row.id]) if item.reused_from is None])
        name, after = lifecycle.answer(current, step, decision, by=by, comment=comment, now=clock.now())
    except errors.ConflictError as error:
        raise errors.ConflictError(f"run {row.name}: {error.message}") from None
    runs.record_lifecycle(session, row, after)
    answer = after.steps[name].approval
    if answer is not None and answer.refusal is not None:
        return events.RunRejected(run=row.name, step=name, by=by, comment=comment, cause=answer.refusal)
    return events.RunApproved(run=row.name, step=name, by=by or "", comment=comment)


def end(session: sqlmodel.Session, row: runs.Run, state: State, cause: str) -> list[events.Payload]:
    """Finish a run of which no engine will report."""
    runs.record_lifecycle(session, row, lifecycle.stopped(runs.lifecycle_of(session, row), state, cause, clock.now()))
    return [finished_event(session, row)]


def is_late(step: runs.StepRun) -> bool:
    """Whether the time to answer is over, and nobody has."""
    return step.approval is not None and approval.Approval.model_validate(step.approval).is_late(clock.now())


def _applied(session: sqlmodel.Session, row: runs.Run, named: Sequence[str] | None, change: _Change) -> list[events.Payload]:
    steps = row.plan["steps"] if row.plan else []
    planned = _STEPS.validate_python(steps) if any(step.get("approval") for step in steps) else ()
    before = runs.lifecycle_of(session, row, [step.name for step in planned] or named)
    after = lifecycle.settle(change(before, planned), planned, clock.now())
    runs.record_lifecycle(session, row, after)
    return list(_announcements(session, row, before, after))


def _announcements(
    session: sqlmodel.Session, row: runs.Run, before: lifecycle.Lifecycle, after: lifecycle.Lifecycle
) -> Iterator[events.Payload]:
    # A run that began with a question has been waiting before it starts.
    if before.run.started is None and after.run.started is not None and after.run.state not in FINISHED:
        yield events.RunStarted(run=row.name, workflow=row.workflow, project=row.project)
    for name, step in after.steps.items():
        now, known = step.progress, before.steps[name].progress
        if now.is_final and not known.is_final:
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
    """The event of a run that has just ended as its row says; it is counted, too."""
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
