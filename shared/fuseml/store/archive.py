"""What becomes of finished runs: whose logs are to be kept, which ones the engine may forget, whose logs have been kept for long enough."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.store.tables import run_rows

NOWHERE = ""
"""The place of a log that is not kept, or no longer."""
_EXECUTED = ("succeeded", "failed", "cancelled")


def unarchived(session: Session, limit: int) -> Sequence[tuple[run_rows.Run, run_rows.StepRun]]:
    """Steps that have ended, and whose logs are nowhere but with the engine; those that ended first come first."""
    query = (
        select(run_rows.Run, run_rows.StepRun)
        .where(run_rows.Run.id == run_rows.StepRun.run_id, col(run_rows.StepRun.archived).is_(None), col(run_rows.StepRun.execution) > 0)
        .where(col(run_rows.StepRun.state).in_(_EXECUTED))
        .order_by(col(run_rows.StepRun.finished), col(run_rows.StepRun.run_id), col(run_rows.StepRun.position))
        .limit(limit)
    )
    return session.exec(query).all()


def archived(session: Session, step: run_rows.StepRun, place: str) -> None:
    """The log is at that place of the contents now, or `NOWHERE`. What was said first stands."""
    stored = session.get(run_rows.StepRun, (step.run_id, step.name))
    if stored is not None and stored.archived is None:
        stored.archived = place
        session.add(stored)


def with_engine(session: Session, before: str, limit: int) -> Sequence[run_rows.Run]:
    """Runs that finished before that moment and that the engine was not told to forget."""
    query = select(run_rows.Run).where(col(run_rows.Run.forgotten).is_(None), col(run_rows.Run.finished) < before)
    return session.exec(query.order_by(col(run_rows.Run.finished)).limit(limit)).all()


def with_logs(session: Session, before: str, limit: int) -> Sequence[run_rows.Run]:
    """Runs that finished before that moment and whose logs were not removed."""
    query = select(run_rows.Run).where(col(run_rows.Run.expired).is_(None), col(run_rows.Run.finished) < before)
    return session.exec(query.order_by(col(run_rows.Run.finished)).limit(limit)).all()
