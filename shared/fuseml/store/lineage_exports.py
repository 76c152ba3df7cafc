"""Runs whose lineage is exported, and the events of them that were sent."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, func, select

from fuseml.store.tables.export_rows import LineageExport
from fuseml.store.tables.run_rows import Run


def fresh(session: Session, since: str, limit: int) -> Sequence[tuple[str, int]]:
    """Id and sequence of the runs whose export has not begun, of those that were created `since` that moment; oldest first."""
    newest = session.exec(select(func.max(LineageExport.sequence))).one() or 0
    query = select(Run.id, Run.sequence).where(col(Run.sequence) > newest, col(Run.created) >= since)
    return session.exec(query.order_by(col(Run.sequence)).limit(limit)).all()


def begin(session: Session, found: Sequence[tuple[str, int]]) -> None:
    """Begin the exports of runs; those that another process has begun stay."""
    for run_id, sequence in found:
        if session.get(LineageExport, run_id) is None:
            session.add(LineageExport(run_id=run_id, sequence=sequence))


def unfinished(session: Session, limit: int) -> Sequence[str]:
    """The ids of the runs with events to come, of those that have begun or ended; oldest first."""
    query = (
        select(LineageExport.run_id)
        .where(LineageExport.run_id == Run.id, col(LineageExport.done).is_(False))
        .where(col(Run.started).is_not(None) | col(Run.finished).is_not(None))
    )
    return session.exec(query.order_by(col(LineageExport.sequence)).limit(limit)).all()


def sent(session: Session, run_id: str) -> set[str]:
    """The keys of the events of a run that need not be sent any more."""
    return set(session.get_one(LineageExport, run_id).sent)


def mark_sent(session: Session, run_id: str, key: str) -> None:
    """Record that the endpoint has accepted the event."""
    row = session.get_one(LineageExport, run_id)
    row.sent = [*(item for item in row.sent if item != key), key]
    session.add(row)


def mark_refused(session: Session, run_id: str, key: str, most: int) -> bool:
    """Count a refusal of the event. Returns whether it is given up, after `most` refusals."""
    row = session.get_one(LineageExport, run_id)
    row.refusals = {**row.refusals, key: row.refusals.get(key, 0) + 1}
    session.add(row)
    if row.refusals[key] < most:
        return False
    mark_sent(session, run_id, key)
    return True


def mark_done(session: Session, run_id: str) -> None:
    """Record that the run has no further events."""
    row = session.get_one(LineageExport, run_id)
    row.done = True
    session.add(row)
