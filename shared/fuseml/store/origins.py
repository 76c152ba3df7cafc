"""Origins of codesets. Columns of one row have several writers, so each function writes its own columns of the stored row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.store.tables.origin_rows import CodesetOrigin, CommitStatus


def find(session: Session, project: str, codeset: str) -> CodesetOrigin | None:
    """The origin of a codeset, or None."""
    return session.get(CodesetOrigin, (project, codeset))


def save(session: Session, row: CodesetOrigin) -> None:
    """Store a new or changed origin."""
    session.add(row)
    session.flush()


def due(session: Session, now: str, limit: int) -> Sequence[CodesetOrigin]:
    """The origins whose synchronisation is due, the longest waiting first."""
    return session.exec(select(CodesetOrigin).where(CodesetOrigin.due <= now).order_by(col(CodesetOrigin.due)).limit(limit)).all()


def request(session: Session, project: str, codeset: str, now: str) -> None:
    """Make the synchronisation due now. One that is under way began earlier, so that it leaves it due."""
    row = find(session, project, codeset)
    if row is not None:
        row.due = now
        save(session, row)


def record_delivery(session: Session, row: CodesetOrigin, what: str, now: str) -> None:
    """Store the last genuine delivery of the host."""
    row.delivered, row.delivery = now, what
    save(session, row)


def record_refusal(session: Session, row: CodesetOrigin, reason: str, now: str) -> None:
    """Store the last delivery that was refused."""
    row.refused, row.refusal = now, reason
    save(session, row)


def forget(session: Session, project: str, codeset: str) -> None:
    """Delete the origin and the commit statuses of a codeset that is deleted."""
    for table in (CodesetOrigin, CommitStatus):
        session.exec(sqlalchemy.delete(table).where(col(table.project) == project, col(table.codeset) == codeset))


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Pass every sealed secret through `change(origin of project/codeset, value)`."""
    for row in session.exec(select(CodesetOrigin)):
        row.secret = change(f"origin of {row.project}/{row.codeset}", row.secret)
        session.add(row)
