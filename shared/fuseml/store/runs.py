"""Runs and their step runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, exists, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from fuseml.domain import errors, plans, runs
from fuseml.domain.runs import approval, lifecycle
from fuseml.store import archive, executions, paging
from fuseml.store.tables import run_rows

ACTIVE = ("queued", "running", "waiting")


def find(session: Session, run_id: str) -> run_rows.Run | None:
    """The run with this identity, or None."""
    return session.get(run_rows.Run, run_id)


def find_named(session: Session, name: str) -> run_rows.Run | None:
    """The run of this name, or None."""
    return session.exec(select(run_rows.Run).where(run_rows.Run.name == name)).first()


def get(session: Session, name: str) -> run_rows.Run:
    """Raises NotFoundError."""
    row = find_named(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no run named {name!r}; `fuseml run list` shows those that exist")
    return row


def of_request(session: Session, request: str) -> run_rows.Run | None:
    """The run that a request has led to, or None."""
    return session.exec(select(run_rows.Run).where(run_rows.Run.request == request)).first()


def add(
    session: Session,
    row: run_rows.Run,
    steps: Sequence[str],
    reused: Mapping[str, plans.ReusedStep] | None = None,
    cached: Collection[str] = (),
) -> None:
    """Store a new run with its steps queued; those of `steps` that are `reused` have succeeded already, those `cached` are to get a key."""
    row.sequence = (session.exec(select(func.max(run_rows.Run.sequence))).one() or 0) + 1
    session.add(row)
    session.flush()
    for position, name in enumerate(steps):
        step = run_rows.StepRun(run_id=row.id, name=name, position=position, state=row.state, execution=row.execution)
        step.cache_key = executions.UNKNOWN if name in cached else None
        if reused and name in reused:
            step.state, step.outputs, step.reused_from = "succeeded", dict(reused[name].outputs), reused[name].run
            step.execution = 0  # no engine has anything of it: no log, and nothing to wait for
            # Its log is that of the run which executed it.
            step.archived = archive.NOWHERE
        session.add(step)


def steps(session: Session, run_ids: Sequence[str]) -> Sequence[run_rows.StepRun]:
    """The step runs of the given runs, in the order of the workflow."""
    return session.exec(
        select(run_rows.StepRun)
        .where(col(run_rows.StepRun.run_id).in_(run_ids))
        .order_by(col(run_rows.StepRun.run_id), col(run_rows.StepRun.position))
    ).all()


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[run_rows.Run]:
    """Runs, newest first, whose columns (workflow, project, codeset, commit, state, request) equal what is given."""
    query = select(run_rows.Run)
    for name, value in filters.items():
        if value:
            query = query.where(getattr(run_rows.Run, name) == value)
    return paging.fetch(session, query, page, run_rows.Run.sequence, descending=True)


def active(session: Session, *, workflow: str | None = None) -> Sequence[run_rows.Run]:
    """Every run, of the workflow if one is given, that has not finished, oldest first."""
    query = select(run_rows.Run).where(col(run_rows.Run.state).in_(ACTIVE)).order_by(col(run_rows.Run.sequence))
    return session.exec(query.where(run_rows.Run.workflow == workflow) if workflow else query).all()


_UNTOLD = select(run_rows.Run).where(
    col(run_rows.Run.submitted).is_not(None),
    col(run_rows.Run.state).in_(ACTIVE),
    or_(
        col(run_rows.Run.execution) > col(run_rows.Run.executed),
        exists().where(
            col(run_rows.StepRun.run_id) == run_rows.Run.id,
            col(run_rows.StepRun.execution) > 0,
            col(run_rows.StepRun.state).in_(ACTIVE),
        ),
    ),
)


def untold(session: Session) -> Sequence[run_rows.Run]:
    """Unfinished runs of which an engine has yet to tell something: not those that only wait for people. Oldest first."""
    return session.exec(_UNTOLD.order_by(col(run_rows.Run.sequence))).all()


def count_active(session: Session) -> dict[str, int]:
    """How many runs are in each of the states in which one has not finished."""
    query = select(run_rows.Run.state, func.count()).where(col(run_rows.Run.state).in_(ACTIVE)).group_by(run_rows.Run.state)
    return dict.fromkeys(ACTIVE, 0) | dict(session.exec(query).all())


_earlier = aliased(run_rows.Run)
# Made once: it is executed after every event that `dispatcher` handles, and making it costs more than that.
_UNSUBMITTED = (
    select(run_rows.Run)
    .where(
        col(run_rows.Run.submitted).is_(None),
        col(run_rows.Run.state).in_(ACTIVE),
        or_(
            col(run_rows.Run.execution) > col(run_rows.Run.executed),
            and_(col(run_rows.Run.execution) == 0, col(run_rows.Run.state) == "queued"),
        ),
        col(run_rows.Run.plan).is_not(None),
        ~exists().where(
            col(_earlier.concurrency_group) == run_rows.Run.concurrency_group,
            col(_earlier.sequence) < run_rows.Run.sequence,
            col(_earlier.state).in_(ACTIVE),
        ),
    )
    .order_by(col(run_rows.Run.sequence))
)


def unsubmitted(session: Session) -> Sequence[run_rows.Run]:
    """Planned runs with an execution that no engine has got yet, or of which none was begun and nobody was asked, and that wait for no
    other run of their group, oldest first.
    """
    return session.exec(_UNSUBMITTED).all()


def waiting(session: Session) -> Sequence[tuple[run_rows.Run, run_rows.StepRun]]:
    """The steps that wait for a person, or for their turn after one has approved, with their runs."""
    query = select(run_rows.Run, run_rows.StepRun).where(run_rows.Run.id == run_rows.StepRun.run_id, run_rows.StepRun.state == "waiting")
    return session.exec(query.order_by(col(run_rows.Run.sequence), col(run_rows.StepRun.position))).all()


def group(session: Session, name: str, *, since: str | None = None) -> Sequence[run_rows.Run]:
    """The unfinished runs of a concurrency group or, of those created `since` then, all; oldest first."""
    wanted = col(run_rows.Run.state).in_(ACTIVE) if since is None else col(run_rows.Run.created) >= since
    query = select(run_rows.Run).where(run_rows.Run.concurrency_group == name, wanted).order_by(col(run_rows.Run.sequence))
    return session.exec(query).all()


def waits_for(session: Session, rows: Sequence[run_rows.Run]) -> dict[str, str]:
    """Run id -> the name of the run after which its turn comes, for those of `rows` that wait in their concurrency group."""
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
    query = select(run_rows.Run.id, run_rows.Run.name, run_rows.Run.concurrency_group).where(
        col(run_rows.Run.concurrency_group).in_(set(waiting.values())), col(run_rows.Run.state).in_(ACTIVE)
    )
    found: dict[str, str] = {}
    last: dict[str | None, str] = {}
    for run_id, name, group_name in session.exec(query.order_by(col(run_rows.Run.sequence))):
        if run_id in waiting and group_name in last:
            found[run_id] = last[group_name]
        last[group_name] = name
    return found


def progress(row: run_rows.Run | run_rows.StepRun) -> runs.Progress:
    """The domain's view of a row."""
    attempts = row.attempts if isinstance(row, run_rows.StepRun) else 1 if row.started else 0
    state: Any = row.state
    return runs.Progress(state, row.started, row.finished, row.cause, attempts, row.outputs)


def record(session: Session, row: run_rows.Run | run_rows.StepRun, now: runs.Progress) -> None:
    """Store progress."""
    row.state, row.started, row.finished, row.cause, row.outputs = now.state, now.started, now.finished, now.cause, dict(now.outputs)
    if isinstance(row, run_rows.StepRun):
        row.attempts = now.attempts
    session.add(row)


def lifecycle_of(session: Session, row: run_rows.Run, steps: Collection[str]) -> lifecycle.Lifecycle:
    """The domain's view of a run and those of its step runs that are named and exist."""
    found = session.exec(
        select(run_rows.StepRun)
        .where(run_rows.StepRun.run_id == row.id, col(run_rows.StepRun.name).in_(steps))
        .order_by(col(run_rows.StepRun.position))
    ).all()
    return lifecycle.Lifecycle(
        progress(row),
        {step.name: lifecycle.Step(progress(step), step.execution, _approval(step)) for step in found},
        row.execution,
        row.executed,
        row.cancelled,
    )


def _approval(step: run_rows.StepRun) -> approval.Approval | None:
    return approval.Approval.model_validate(step.approval) if step.approval else None


def record_lifecycle(session: Session, row: run_rows.Run, now: lifecycle.Lifecycle) -> None:
    """Store how far the run and its steps have come. An execution that was just begun has not been submitted."""
    record(session, row, now.run)
    if now.execution != row.execution:
        row.submitted = None
    row.execution, row.executed, row.cancelled = now.execution, now.executed, now.cancelled
    for name, step in now.steps.items():
        stored = session.get_one(run_rows.StepRun, (row.id, name))
        record(session, stored, step.progress)
        stored.execution = step.execution
        stored.approval = step.approval.model_dump(mode="json") if step.approval else None
