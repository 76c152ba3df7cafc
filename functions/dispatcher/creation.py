"""Creation of runs in the transaction of an event: the row, its steps and its plan. A run that cannot start is ended at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import conversions, identity
from fuseml.domain.runs import FINISHED, Observation, advance
from fuseml.domain.workflows import concurrency
from fuseml.runtime import clock
from fuseml.runtime.telemetry import trace
from fuseml.store import codesets, decisions, run_locks, runs, workflows
from fuseml.usecases import lifecycle, planner

Planning = Callable[[str, str], plans.Plan]
"""From the run's id and name to its plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The cause of a run: the event, and how the event leads to this run.

    `meaning` is the part of the run's identity that separates runs of one workflow on the same inputs. `reason` is a clause for people.
    `trigger` holds the details that the run records beside those of the event, `request` the id of the request that the run answers, `run`
    the name of the run whose artifact it takes.
    """

    event: events.Event
    meaning: str
    reason: str
    trigger: Mapping[str, str | None]
    request: str | None = None
    run: str | None = None


def create(session: sqlmodel.Session, spec: planner.RunSpec, planning: Planning, cause: Cause) -> list[events.Payload]:
    """Store one run of the spec, unless it exists. Returns the events to publish."""
    run_id = identity.identity(spec.document.name, spec.revision, spec.recorded_inputs() or {"trigger": spec.code}, cause.meaning)
    existing = runs.find(session, run_id)
    if existing:
        reason = f"{existing.name} exists already for the same revision and inputs"
        decisions.record(session, cause.event, reason, clock.now(), workflow=existing.workflow, run=existing.name, commit=spec.commit)
        return []
    row = _row(session, run_id, spec, cause)
    decisions.record(session, cause.event, cause.reason, row.created, workflow=row.workflow, run=row.name, commit=row.commit)
    created = events.RunCreated(
        run=row.name, workflow=row.workflow, revision=row.revision, project=row.project, codeset=row.codeset, commit=row.commit
    )
    names = spec.document.executed
    try:
        plan = planning(row.id, row.name)
    except errors.PermanentError as error:
        # A request must not vanish: the run is stored with the reason for which it cannot start.
        runs.add(session, row, names)
        return [created, *lifecycle.end(session, row, "failed", error.message)]
    row.plan = plan.model_dump(mode="json")
    reused = {step.name: step for step in plan.reused}
    executed = {step.name: step for step in plan.steps}
    cached = [name for name, step in executed.items() if step.cache]
    # A run without approvals is one execution. In any other run, `advance` begins the first execution.
    row.execution = 0 if any(step.approval for step in plan.steps) else 1
    runs.add(session, row, conversions.listed(plan, names), reused, cached)
    run_locks.note(session, row.id, plan)
    payloads = [
        created,
        *(_supersede(session, row) if spec.document.concurrency and spec.document.concurrency.policy == "cancel" else ()),
        # In a group, approvals are requested at the run's turn, which comes after a commit (submission.py).
        *(lifecycle.advance(session, row) if row.execution == 0 and not runs.waits_for(session, [row]) else ()),
    ]
    return payloads if executed or row.state in FINISHED else [*payloads, _completed(session, row, plan)]


def _row(session: sqlmodel.Session, run_id: str, spec: planner.RunSpec, cause: Cause) -> runs.Run:
    event = cause.event
    return runs.Run(
        id=run_id,
        name=workflows.next_run_name(session, spec.document.name),
        sequence=0,
        workflow=spec.document.name,
        revision=spec.revision,
        project=spec.project,
        codeset=spec.codeset,
        commit=spec.commit,
        ref=spec.ref or None,
        trigger={
            "kind": event.type.removeprefix(events.PREFIX).removesuffix(".v1"),
            "event": event.id,
            "source": event.source,
            "user": spec.user,
            **trace.outgoing(),
            **cause.trigger,
        },
        request=cause.request,
        caused_by=cause.run,
        concurrency_group=concurrency.group_of(
            spec.document, project=spec.project, codeset=spec.codeset, commit=spec.commit, inputs=spec.inputs
        ),
        inputs=spec.recorded_inputs(),
        state="queued",
        created=clock.now(),
    )


def _completed(session: sqlmodel.Session, row: runs.Run, plan: plans.Plan) -> events.Payload:
    """Finish a run with nothing to execute: every step is reused, so that the outputs are known."""
    moment = clock.now()
    outputs = {name: "".join(part.text for part in value if isinstance(part, plans.TextPart)) for name, value in plan.outputs.items()}
    seen = Observation(row.id, None, "succeeded", moment, started=moment, outputs=outputs)
    runs.record(session, row, advance(runs.progress(row), seen))
    return lifecycle.finished_event(session, row)


def _supersede(session: sqlmodel.Session, row: runs.Run) -> list[events.Payload]:
    """Cancel the unfinished runs of the group; or the new run itself, when its push is late and a newer one has superseded it."""
    group = row.concurrency_group or ""
    announced = row.trigger.get("announced")
    if announced:
        # The run of a later push was created after this push was published.
        head = codesets.last_push(session, row.project, row.codeset or "", row.trigger["ref"])
        newer = [other for other in runs.group(session, group, since=announced) if _is_newer_push(other, row, head)]
        if newer:
            return lifecycle.end(session, row, "cancelled", f"superseded by {newer[-1].name}")
    cause = f"superseded by {row.name}"
    payloads: list[events.Payload] = []
    for other in runs.group(session, group):
        if other.id != row.id:
            payloads += cancel(session, other, cause)
    return payloads


def cancel(session: sqlmodel.Session, row: runs.Run, cause: str) -> list[events.Payload]:
    """Cancel an unfinished run: at once, or by a request if the engine may have it. Returns the events to publish."""
    if is_with_engine(row):
        return [events.RunCancelRequested(run=row.name, reason=cause)]
    return lifecycle.end(session, row, "cancelled", cause)


def _is_newer_push(other: runs.Run, row: runs.Run, head: str) -> bool:
    """Whether `other` was started by a later push of the same ref; `head` is the identity of the push that the ref is at."""
    if (other.codeset, other.trigger.get("ref")) != (row.codeset, row.trigger["ref"]):
        return False
    theirs, own = other.trigger.get("push"), row.trigger["push"]
    if own in (theirs, head):
        return False
    # The sweep publishes several lost pushes at one time; then the ref itself decides which one is the newest.
    return theirs == head or other.trigger["announced"] > row.trigger["announced"]


def is_with_engine(row: runs.Run) -> bool:
    """Whether an execution of the run may be under way in the engine. A run that waits for an approval or for its turn has none."""
    return row.submitted is not None and row.execution > row.executed
