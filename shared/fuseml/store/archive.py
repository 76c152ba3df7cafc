"""What becomes of finished runs: whose logs are to be kept, which ones the engine may forget, whose logs have been kept for long enough."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.domain import run
from fuseml.store import tables

NOWHERE = ""
"""The place of a log that is not kept, or no longer."""
_EXECUTED = ("succeeded", "failed", "cancelled")


def unarchived(session: Session, limit: int) -> Sequence[tuple[tables.Run, tables.StepRun]]:
    """Steps that have ended, and whose logs are nowhere but with the engine; those that ended first come first."""
    query = (
        select(tables.Run, tables.StepRun)
        .where(tables.Run.id == tables.StepRun.run_id, col(tables.StepRun.archived).is_(None), col(tables.StepRun.execution) > 0)
        # Of a step that nothing was heard of any more, the run tells that it has ended.
        .where(
            col(tables.StepRun.state).in_(_EXECUTED) | ((col(tables.StepRun.state) == "running") & col(tables.Run.state).in_(run.FINISHED))
        )
        .order_by(col(tables.StepRun.finished), col(tables.StepRun.run_id), col(tables.StepRun.position))
        .limit(limit)
    )
    return session.exec(query).all()


def archived(session: Session, step: tables.StepRun, place: str) -> None:
    """The log is at that place of the contents now, or `NOWHERE`. What was said first stands."""
    stored = session.get(tables.StepRun, (step.run_id, step.name))
    if stored is not None and stored.archived is None:
        stored.archived = place
        session.add(stored)


def with_engine(session: Session, before: str, limit: int) -> Sequence[tables.Run]:
    """Runs that finished before that moment and that the engine was not told to forget."""
    query = select(tables.Run).where(col(tables.Run.forgotten).is_(None), col(tables.Run.finished) < before)
    return session.exec(query.order_by(col(tables.Run.finished)).limit(limit)).all()


def with_logs(session: Session, before: str, limit: int) -> Sequence[tables.Run]:
    """Runs that finished before that moment and whose logs were not removed."""
    query = select(tables.Run).where(col(tables.Run.expired).is_(None), col(tables.Run.finished) < before)
    return session.exec(query.order_by(col(tables.Run.finished)).limit(limit)).all()
