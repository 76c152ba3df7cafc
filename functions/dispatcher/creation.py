"""Making runs, inside an event's transaction: the row, its steps and its plan; and ending those that cannot start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED, Observation, advance
from fuseml.domain.workflows import concurrency
from fuseml.runtime import clock
from fuseml.runtime.telemetry import trace
from fuseml.store import codesets, decisions, runs, workflows
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
    run_id = identity.identity(spec.document.name, spec.revision, spec.given() or {"trigger": spec.code}, cause.meaning)
    existing = runs.find(session, run_id)
    if existing:
        told = f"{existing.name} exists already for the same revision and inputs"
        decisions.record(session, cause.event, told, clock.now(), workflow=existing.workflow, run=existing.name, commit=spec.commit)
        return []
    row = _row(session, run_id, spec, cause)
    decisions.record(session, cause.event, cause.reason, row.created, workflow=row.workflow, run=row.name, commit=row.commit)
    created = events.RunCreated(
        run=row.name, workflow=row.workflow, revision=row.revision, project=row.project, codeset=row.codeset, commit=row.commit
    )
    names = [step.name for step in spec.document.steps]
    try:
        planned = planning(row.id, row.name)
    except errors.PermanentError as error:
        # What asked for the run must not vanish: the run is there, and says why it could not start.
        runs.add(session, row, names)
        return [created, *lifecycle.end(session, row, "failed", error.message)]
    row.plan = planned.model_dump(mode="json")
    reused = {step.name: step for step in planned.reused}
    left = {step.name: step for step in planned.steps}
    cached = [name for name, step in left.items() if step.cache]
    # What comes before any question is the first execution; a run that asks nobody is nothing else.
    row.execution = 0 if any(step.approval for step in planned.steps) else 1
    runs.add(session, row, [name for name in names if name in reused or name in left], reused, cached)
    announced = [
        created,
        *(_supersede(session, row) if spec.document.concurrency and spec.document.concurrency.policy == "cancel" else ()),
        # In a group people are asked when it is the run's turn, which comes after a commit (submission.py).
        *(lifecycle.advance(session, row) if row.execution == 0 and not runs.waits_for(session, [row]) else ()),
    ]
    return announced if left or row.state in FINISHED else [*announced, _completed(session, row, planned)]


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
        inputs=spec.given(),
        state="queued",
        created=clock.now(),
    )


def _completed(session: sqlmodel.Session, row: runs.Run, planned: plans.Plan) -> events.Payload:
    """Finish a run that has nothing to execute: every step of it is reused, so that its outputs are known."""
    moment = clock.now()
    outputs = {name: "".join(part.text for part in value if isinstance(part, plans.TextPart)) for name, value in planned.outputs.items()}
    seen = Observation(row.id, None, "succeeded", moment, started=moment, outputs=outputs)
    runs.record(session, row, advance(runs.progress(row), seen))
    return lifecycle.finished_event(session, row)


def _supersede(session: sqlmodel.Session, row: runs.Run) -> list[events.Payload]:
    """The new run cancels every unfinished one of its group, unless its push came late: then a newer one has superseded it already."""
    group = row.concurrency_group or ""
    announced = row.trigger.get("announced")
    if announced:
        # A run of a push that was announced later was also created later than this one was announced.
        head = codesets.announced(session, row.project, row.codeset or "").get(row.trigger["ref"])
        newer = [other for other in runs.group(session, group, since=announced) if _is_newer_push(other, row, head)]
        if newer:
            return lifecycle.end(session, row, "cancelled", f"superseded by {newer[-1].name}")
    cause = f"superseded by {row.name}"
    told: list[events.Payload] = []
    for other in runs.group(session, group):
        if other.id != row.id:
            told += (
                [events.RunCancelRequested(run=other.name, reason=cause)]
                if is_with_engine(other)
                else lifecycle.end(session, other, "cancelled", cause)
            )
    return told


def _is_newer_push(other: runs.Run, row: runs.Run, head: str | None) -> bool:
    if (other.codeset, other.trigger.get("ref")) != (row.codeset, row.trigger["ref"]) or other.commit == row.commit:
        return False
    # Pushes whose webhooks were lost are announced together; then only the branch's head tells which one is the newest.
    return other.commit == head or other.trigger["announced"] > row.trigger["announced"]


def is_with_engine(row: runs.Run) -> bool:
    """Whether an engine has something of the run that may still be under way; it has nothing of one that waits for people or its turn."""
    return row.submitted is not None and row.execution > row.executed
