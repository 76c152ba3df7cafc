"""Retention of finished runs: logs to archive, executions that the engine may forget, logs past their retention."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import exists, or_
from sqlmodel import Session, col, select

from fuseml.store.tables import run_rows

NOWHERE = ""
"""The key of a log that is not kept, or no longer."""
_EXECUTED = ("succeeded", "failed", "cancelled")


def unarchived(session: Session, limit: int) -> Sequence[tuple[run_rows.Run, run_rows.StepRun]]:
    """Finished steps whose logs only the engine has, in the order of their ends."""
    query = (
        select(run_rows.Run, run_rows.StepRun)
        .where(run_rows.Run.id == run_rows.StepRun.run_id, col(run_rows.StepRun.archived).is_(None), col(run_rows.StepRun.execution) > 0)
        .where(col(run_rows.StepRun.state).in_(_EXECUTED))
        .order_by(col(run_rows.StepRun.finished), col(run_rows.StepRun.run_id), col(run_rows.StepRun.position))
        .limit(limit)
    )
    return session.exec(query).all()


def record(session: Session, step: run_rows.StepRun, key: str) -> None:
    """Store the key of the step's log in the contents, or `NOWHERE`. The first key stands."""
    stored = session.get(run_rows.StepRun, (step.run_id, step.name))
    if stored is not None and stored.archived is None:
        stored.archived = key
        session.add(stored)


def with_engine(session: Session, before: str, limit: int) -> Sequence[run_rows.Run]:
    """Runs that finished before that moment and that the engine still holds."""
    query = select(run_rows.Run).where(col(run_rows.Run.forgotten).is_(None), col(run_rows.Run.finished) < before)
    return session.exec(query.order_by(col(run_rows.Run.finished)).limit(limit)).all()


_UNARCHIVED = exists().where(
    col(run_rows.StepRun.run_id) == run_rows.Run.id,
    col(run_rows.StepRun.execution) > 0,
    col(run_rows.StepRun.archived).is_(None),
    col(run_rows.StepRun.state).in_(_EXECUTED),
)
_UNREPORTED = exists().where(
    col(run_rows.StepRun.run_id) == run_rows.Run.id, col(run_rows.StepRun.execution) > 0, col(run_rows.StepRun.finished).is_(None)
)


def kept(session: Session, late: str, limit: int) -> Sequence[run_rows.Run]:
    """Finished runs that the engine still holds, and of which nothing is missing: all logs are archived, and all ends of steps reported.

    The reports of a run that finished before `late` are not waited for.
    """
    query = select(run_rows.Run).where(col(run_rows.Run.forgotten).is_(None), col(run_rows.Run.finished).is_not(None), ~_UNARCHIVED)
    query = query.where(or_(~_UNREPORTED, col(run_rows.Run.finished) < late))
    return session.exec(query.order_by(col(run_rows.Run.finished)).limit(limit)).all()


def with_logs(session: Session, before: str, limit: int) -> Sequence[run_rows.Run]:
    """Runs that finished before that moment and whose logs are still kept."""
    query = select(run_rows.Run).where(col(run_rows.Run.expired).is_(None), col(run_rows.Run.finished) < before)
    return session.exec(query.order_by(col(run_rows.Run.finished)).limit(limit)).all()
