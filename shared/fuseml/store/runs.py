"""Runs and their step runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, exists, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from fuseml.domain import approval, errors, plan, run
from fuseml.domain import course as courses
from fuseml.store import archive, executions, paging, tables

ACTIVE = ("queued", "running", "waiting")


def find(session: Session, run_id: str) -> tables.Run | None:
    """The run with this identity, or None."""
    return session.get(tables.Run, run_id)


def find_named(session: Session, name: str) -> tables.Run | None:
    """The run of this name, or None."""
    return session.exec(select(tables.Run).where(tables.Run.name == name)).first()


def get(session: Session, name: str) -> tables.Run:
    """Raises NotFoundError."""
    row = find_named(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no run named {name!r}; `fuseml run list` shows those that exist")
    return row


def next_name(session: Session, workflow: str) -> str:
    """The next run's name, `<workflow>-<number>`. Names are never used twice: the count stays when runs are removed."""
    row = session.exec(select(tables.Workflow).where(tables.Workflow.name == workflow).with_for_update()).one()
    row.runs += 1
    session.add(row)
    return f"{workflow}-{row.runs}"


def of_request(session: Session, request: str) -> tables.Run | None:
    """The run that a request has led to, or None."""
    return session.exec(select(tables.Run).where(tables.Run.request == request)).first()


def add(
    session: Session,
    row: tables.Run,
    steps: Sequence[str],
    reused: Mapping[str, plan.ReusedStep] | None = None,
    cached: Collection[str] = (),
) -> None:
    """Store a new run with its steps queued; those of `steps` that are `reused` have succeeded already, those `cached` are to get a key."""
    row.sequence = (session.exec(select(func.max(tables.Run.sequence))).one() or 0) + 1
    session.add(row)
    session.flush()
    for position, name in enumerate(steps):
        step = tables.StepRun(run_id=row.id, name=name, position=position, state=row.state, execution=row.execution)
        step.cache_key = executions.UNKNOWN if name in cached else None
        if reused and name in reused:
            step.state, step.outputs, step.reused_from = "succeeded", dict(reused[name].outputs), reused[name].run
            step.execution = 0  # no engine has anything of it: no log, and nothing to wait for
            # Its log is that of the run which executed it.
            step.archived = archive.NOWHERE
        session.add(step)


def steps(session: Session, run_ids: Sequence[str]) -> Sequence[tables.StepRun]:
    """The step runs of the given runs, in the order of the workflow."""
    return session.exec(
        select(tables.StepRun)
        .where(col(tables.StepRun.run_id).in_(run_ids))
        .order_by(col(tables.StepRun.run_id), col(tables.StepRun.position))
    ).all()


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[tables.Run]:
    """Runs, newest first, whose columns (workflow, project, codeset, commit, state, request) equal what is given."""
    query = select(tables.Run)
    for name, value in filters.items():
        if value:
            query = query.where(getattr(tables.Run, name) == value)
    return paging.fetch(session, query, page, tables.Run.sequence, descending=True)


def active(session: Session, *, workflow: str | None = None) -> Sequence[tables.Run]:
    """Every run, of the workflow if one is given, that has not finished, oldest first."""
    query = select(tables.Run).where(col(tables.Run.state).in_(ACTIVE)).order_by(col(tables.Run.sequence))
    return session.exec(query.where(tables.Run.workflow == workflow) if workflow else query).all()


_UNTOLD = select(tables.Run).where(
    col(tables.Run.submitted).is_not(None),
    col(tables.Run.state).in_(ACTIVE),
    or_(
        col(tables.Run.execution) > col(tables.Run.executed),
        exists().where(
            col(tables.StepRun.run_id) == tables.Run.id,
            col(tables.StepRun.execution) > 0,
            col(tables.StepRun.state).in_(ACTIVE),
        ),
    ),
)


def untold(session: Session) -> Sequence[tables.Run]:
    """Unfinished runs of which an engine has yet to tell something: not those that only wait for people. Oldest first."""
    return session.exec(_UNTOLD.order_by(col(tables.Run.sequence))).all()


def count_active(session: Session) -> dict[str, int]:
    """How many runs are in each of the states in which one has not finished."""
    query = select(tables.Run.state, func.count()).where(col(tables.Run.state).in_(ACTIVE)).group_by(tables.Run.state)
    return dict.fromkeys(ACTIVE, 0) | dict(session.exec(query).all())


_earlier = aliased(tables.Run)
# Made once: it is executed after every event that `dispatcher` handles, and making it costs more than that.
_UNSUBMITTED = (
    select(tables.Run)
    .where(
        col(tables.Run.submitted).is_(None),
        col(tables.Run.state).in_(ACTIVE),
        or_(col(tables.Run.execution) > col(tables.Run.executed), and_(col(tables.Run.execution) == 0, col(tables.Run.state) == "queued")),
        col(tables.Run.plan).is_not(None),
        ~exists().where(
            col(_earlier.concurrency_group) == tables.Run.concurrency_group,
            col(_earlier.sequence) < tables.Run.sequence,
            col(_earlier.state).in_(ACTIVE),
        ),
    )
    .order_by(col(tables.Run.sequence))
)


def unsubmitted(session: Session) -> Sequence[tables.Run]:
    """Planned runs with an execution that no engine has got yet, or of which none was begun and nobody was asked, and that wait for no
    other run of their group, oldest first.
    """
    return session.exec(_UNSUBMITTED).all()


def waiting(session: Session) -> Sequence[tuple[tables.Run, tables.StepRun]]:
    """The steps that wait for a person, or for their turn after one has approved, with their runs."""
    query = select(tables.Run, tables.StepRun).where(tables.Run.id == tables.StepRun.run_id, tables.StepRun.state == "waiting")
    return session.exec(query.order_by(col(tables.Run.sequence), col(tables.StepRun.position))).all()


def group(session: Session, name: str, *, since: str | None = None) -> Sequence[tables.Run]:
    """The unfinished runs of a concurrency group or, of those created `since` then, all; oldest first."""
    wanted = col(tables.Run.state).in_(ACTIVE) if since is None else col(tables.Run.created) >= since
    query = select(tables.Run).where(tables.Run.concurrency_group == name, wanted).order_by(col(tables.Run.sequence))
    return session.exec(query).all()


def waits_for(session: Session, rows: Sequence[tables.Run]) -> dict[str, str]:
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
    query = select(tables.Run.id, tables.Run.name, tables.Run.concurrency_group).where(
        col(tables.Run.concurrency_group).in_(set(waiting.values())), col(tables.Run.state).in_(ACTIVE)
    )
    found: dict[str, str] = {}
    last: dict[str | None, str] = {}
    for run_id, name, group_name in session.exec(query.order_by(col(tables.Run.sequence))):
        if run_id in waiting and group_name in last:
            found[run_id] = last[group_name]
        last[group_name] = name
    return found


def progress(row: tables.Run | tables.StepRun) -> run.Progress:
    """The domain's view of a row."""
    attempts = row.attempts if isinstance(row, tables.StepRun) else 1 if row.started else 0
    state: Any = row.state
    return run.Progress(state, row.started, row.finished, row.cause, attempts, row.outputs)


def record(session: Session, row: tables.Run | tables.StepRun, now: run.Progress) -> None:
    """Store progress."""
    row.state, row.started, row.finished, row.cause, row.outputs = now.state, now.started, now.finished, now.cause, dict(now.outputs)
    if isinstance(row, tables.StepRun):
        row.attempts = now.attempts
    session.add(row)


def course(session: Session, row: tables.Run, steps: Collection[str]) -> courses.Course:
    """The domain's view of a run and those of its step runs that are named and exist."""
    found = session.exec(
        select(tables.StepRun)
        .where(tables.StepRun.run_id == row.id, col(tables.StepRun.name).in_(steps))
        .order_by(col(tables.StepRun.position))
    ).all()
    return courses.Course(
        progress(row),
        {step.name: courses.Step(progress(step), step.execution, _approval(step)) for step in found},
        row.execution,
        row.executed,
        row.cancelled,
    )


def _approval(step: tables.StepRun) -> approval.Approval | None:
    return approval.Approval.model_validate(step.approval) if step.approval else None


def record_course(session: Session, row: tables.Run, now: courses.Course) -> None:
    """Store how far the run and its steps have come. An execution that was just begun has not been submitted."""
    record(session, row, now.run)
    if now.execution != row.execution:
        row.submitted = None
    row.execution, row.executed, row.cancelled = now.execution, now.executed, now.cancelled
    for name, step in now.steps.items():
        stored = session.get_one(tables.StepRun, (row.id, name))
        record(session, stored, step.progress)
        stored.execution = step.execution
        stored.approval = step.approval.model_dump(mode="json") if step.approval else None
