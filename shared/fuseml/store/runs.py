"""Runs and their step runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, exists, or_
from sqlalchemy.orm import aliased, defer
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from fuseml.domain import errors, plans, runs
from fuseml.domain.runs import approval, lifecycle
from fuseml.store import archive, executions, paging
from fuseml.store.tables.run_rows import Run, StepRun

ACTIVE = ("queued", "running", "waiting")
LATE_REPORTS = 3600
"""Seconds after the end of a run during which missing reports on its steps are looked for."""


def find(session: Session, run_id: str) -> Run | None:
    """The run with this id, or None."""
    return session.get(Run, run_id)


def find_named(session: Session, name: str) -> Run | None:
    """The run of this name, or None."""
    return session.exec(select(Run).where(Run.name == name)).first()


def step_of(session: Session, run_id: str, step: str) -> tuple[Run, StepRun] | None:
    """A run and one of its step runs, without the run's plan; None for unknown ones."""
    query = select(Run, StepRun).where(Run.id == run_id, StepRun.run_id == Run.id, StepRun.name == step)
    return session.exec(query.options(defer(Run.plan, raiseload=True))).first()  # type: ignore[arg-type]


def get(session: Session, name: str) -> Run:
    """Raises NotFoundError."""
    row = find_named(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no run named {name!r}; `fuseml run list` shows those that exist")
    return row


def of_commit(session: Session, prefix: str) -> Sequence[Run]:
    """The runs of the commits that begin with `prefix`, oldest first."""
    return session.exec(select(Run).where(col(Run.commit).startswith(prefix)).order_by(col(Run.sequence))).all()


def of_artifact(session: Session, workflow: str, address: str) -> Run | None:
    """The first run of the workflow that an artifact started; None without one."""
    started = col(Run.trigger)["artifact"].as_string() == address
    return session.exec(select(Run).where(Run.workflow == workflow, started).order_by(col(Run.sequence)).limit(1)).first()


def of_request(session: Session, request: str) -> Run | None:
    """The run of a request, or None."""
    return session.exec(select(Run).where(Run.request == request)).first()


def add(
    session: Session,
    row: Run,
    steps: Sequence[str],
    reused: Mapping[str, plans.ReusedStep] | None = None,
    cached: Collection[str] = (),
) -> None:
    """Store a new run with its steps queued. Steps in `reused` have succeeded already; steps in `cached` will get a key."""
    row.sequence = (session.exec(select(func.max(Run.sequence))).one() or 0) + 1
    session.add(row)
    session.flush()
    for position, name in enumerate(steps):
        step = StepRun(run_id=row.id, name=name, position=position, state=row.state, execution=row.execution)
        step.cache_key = executions.UNKNOWN if name in cached else None
        if reused and name in reused:
            step.state, step.outputs, step.reused_from = "succeeded", dict(reused[name].outputs), reused[name].run
            step.execution = 0  # no engine executes it
            # Its log belongs to the run that executed it.
            step.archived = archive.NOWHERE
        session.add(step)


def steps(session: Session, run_ids: Sequence[str]) -> Sequence[StepRun]:
    """The step runs of the given runs, in the order of the workflow."""
    return session.exec(select(StepRun).where(col(StepRun.run_id).in_(run_ids)).order_by(col(StepRun.run_id), col(StepRun.position))).all()


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[Run]:
    """Runs, newest first, filtered by equality of columns (workflow, project, codeset, commit, state, request)."""
    return paging.fetch(session, _filtered(select(Run), filters), page, Run.sequence, descending=True)


def active(session: Session, **filters: str | None) -> Sequence[Run]:
    """The unfinished runs, filtered by equality of columns (workflow, project, codeset), oldest first."""
    query = select(Run).where(col(Run.state).in_(ACTIVE)).order_by(col(Run.sequence))
    return session.exec(_filtered(query, filters)).all()


def _filtered(query: SelectOfScalar[Run], filters: Mapping[str, str | None]) -> SelectOfScalar[Run]:
    for name, value in filters.items():
        if value:
            query = query.where(getattr(Run, name) == value)
    return query


_UNREPORTED = exists().where(col(StepRun.run_id) == Run.id, col(StepRun.execution) > 0, col(StepRun.finished).is_(None))


def unreported(session: Session, since: str) -> Sequence[Run]:
    """Runs on which reports of the engine are missing, oldest first; runs that only wait for an approval are not among them.

    Included are runs that finished after `since` with a step whose end is only inferred.
    """
    is_active = and_(col(Run.state).in_(ACTIVE), or_(col(Run.execution) > col(Run.executed), _UNREPORTED))
    is_recent = and_(col(Run.forgotten).is_(None), col(Run.finished) > since, _UNREPORTED)
    query = select(Run).where(col(Run.submitted).is_not(None), or_(is_active, is_recent))
    return session.exec(query.order_by(col(Run.sequence))).all()


def count_active(session: Session) -> dict[str, int]:
    """The number of runs in each unfinished state."""
    query = select(Run.state, func.count()).where(col(Run.state).in_(ACTIVE)).group_by(Run.state)
    return dict.fromkeys(ACTIVE, 0) | dict(session.exec(query).all())


_earlier = aliased(Run)
# Built once: it is executed after every event that `dispatcher` handles, and building it costs more than executing it.
_UNSUBMITTED = (
    select(Run)
    .where(
        col(Run.submitted).is_(None),
        col(Run.state).in_(ACTIVE),
        or_(
            col(Run.execution) > col(Run.executed),
            and_(col(Run.execution) == 0, col(Run.state) == "queued"),
        ),
        col(Run.plan).is_not(None),
        ~exists().where(
            col(_earlier.concurrency_group) == Run.concurrency_group,
            col(_earlier.sequence) < Run.sequence,
            col(_earlier.state).in_(ACTIVE),
        ),
    )
    .order_by(col(Run.sequence))
)


def unsubmitted(session: Session) -> Sequence[Run]:
    """Planned runs to submit or to begin, oldest first: the current execution is not submitted, or none has begun and no approval was
    requested; and no earlier run of their group is unfinished.
    """
    return session.exec(_UNSUBMITTED).all()


def mark_submitted(session: Session, row: Run, now: str) -> None:
    """Record that the engine has the run's current execution."""
    row.submitted = now
    session.add(row)


def request_cancel(session: Session, row: Run, reason: str) -> None:
    """Record a requested cancellation; the first reason stays."""
    row.cancelled = row.cancelled or reason
    session.add(row)


def waiting(session: Session) -> Sequence[tuple[Run, StepRun]]:
    """The steps that wait for an approval, or are approved and wait for their execution, with their runs."""
    query = select(Run, StepRun).where(Run.id == StepRun.run_id, StepRun.state == "waiting")
    return session.exec(query.order_by(col(Run.sequence), col(StepRun.position))).all()


def group(session: Session, name: str, *, since: str | None = None) -> Sequence[Run]:
    """The unfinished runs of a concurrency group, or all that were created since a time; oldest first."""
    condition = col(Run.state).in_(ACTIVE) if since is None else col(Run.created) >= since
    query = select(Run).where(Run.concurrency_group == name, condition).order_by(col(Run.sequence))
    return session.exec(query).all()


def waits_for(session: Session, rows: Sequence[Run]) -> dict[str, str]:
    """Run id -> the name of the run that it waits for, for those of `rows` that wait in their concurrency group."""
    waiting = {
        row.id: row.concurrency_group
        for row in rows
        if row.concurrency_group
        and row.state in ACTIVE
        and row.submitted is None
        and (row.execution > row.executed or row.state == "queued")
    }
    if not waiting:
        return {}
    query = select(Run.id, Run.name, Run.concurrency_group).where(
        col(Run.concurrency_group).in_(set(waiting.values())), col(Run.state).in_(ACTIVE)
    )
    predecessors: dict[str, str] = {}
    last: dict[str | None, str] = {}
    for run_id, name, group_name in session.exec(query.order_by(col(Run.sequence))):
        if run_id in waiting and group_name in last:
            predecessors[run_id] = last[group_name]
        last[group_name] = name
    return predecessors


def progress(row: Run | StepRun) -> runs.Progress:
    """The domain's view of a row."""
    attempts = row.attempts if isinstance(row, StepRun) else 1 if row.started else 0
    state: Any = row.state
    return runs.Progress(state, row.started, row.finished, row.cause, attempts, row.outputs)


def record(session: Session, row: Run | StepRun, now: runs.Progress) -> None:
    """Store progress."""
    row.state, row.started, row.finished, row.cause, row.outputs = now.state, now.started, now.finished, now.cause, dict(now.outputs)
    if isinstance(row, StepRun):
        row.attempts = now.attempts
    session.add(row)


def lifecycle_of(session: Session, row: Run, steps: Collection[str] | None = None) -> lifecycle.Lifecycle:
    """The domain's view of a run and of its step runs, or of those among them that are named in `steps`."""
    query = select(StepRun).where(StepRun.run_id == row.id).order_by(col(StepRun.position))
    rows = session.exec(query if steps is None else query.where(col(StepRun.name).in_(steps))).all()
    return lifecycle.Lifecycle(
        progress(row),
        {step.name: lifecycle.Step(progress(step), step.execution, _approval(step)) for step in rows},
        row.execution,
        row.executed,
        row.cancelled,
    )


def _approval(step: StepRun) -> approval.Approval | None:
    return approval.Approval.model_validate(step.approval) if step.approval else None


def record_lifecycle(session: Session, row: Run, now: lifecycle.Lifecycle) -> None:
    """Store the lifecycle of a run and its steps. An execution that has just begun is not submitted yet."""
    record(session, row, now.run)
    if now.execution != row.execution:
        row.submitted = None
    row.execution, row.executed, row.cancelled = now.execution, now.executed, now.cancelled
    for name, step in now.steps.items():
        stored = session.get_one(StepRun, (row.id, name))
        record(session, stored, step.progress)
        stored.execution = step.execution
        stored.approval = step.approval.model_dump(mode="json") if step.approval else None
