"""Commit statuses on their way to git hosts: the newest of each context at each commit, until its host has it.

One process at a time sends a status, so that an older one never arrives after a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy
from sqlmodel import Session, col, or_, select

from fuseml.domain import commit_statuses
from fuseml.store.tables.origin_rows import CommitStatus

Key = tuple[str, str, str, str]
"""Project, codeset, commit, context."""


def key(row: CommitStatus) -> Key:
    """The identity of a status."""
    return row.project, row.codeset, row.commit, row.context


def find(session: Session, key: Key) -> CommitStatus | None:
    """The status, or None."""
    return session.get(CommitStatus, key)


def put(session: Session, row: CommitStatus) -> bool:
    """Store the status of a run, unless that of a newer run, or the end of this one, is known. Returns whether it is to be sent."""
    known = find(session, key(row))
    state: commit_statuses.State = row.state  # type: ignore[assignment]  # a column of text
    if known is None:
        session.add(row)
        session.flush()
        return True
    if not commit_statuses.is_newer(row.sequence, state, known.sequence, known.state):  # type: ignore[arg-type]  # a column of text
        is_same_run = row.sequence == known.sequence and known.state == state == "pending"
        if not is_same_run or row.description == known.description:
            return False
    known.run, known.sequence, known.state = row.run, row.sequence, row.state
    known.description, known.target_url, known.updated = row.description, row.target_url, row.updated
    known.sent, known.attempts, known.due, known.problem = False, 0, row.due, ""
    session.add(known)
    session.flush()
    return True


def due(session: Session, now: str, limit: int) -> Sequence[CommitStatus]:
    """The statuses that no host has and no process is sending, the longest waiting first."""
    query = select(CommitStatus).where(col(CommitStatus.sent).is_(False), col(CommitStatus.due) <= now, CommitStatus.claimed <= now)
    return session.exec(query.order_by(col(CommitStatus.due)).limit(limit)).all()


def of_codeset(session: Session, project: str, codeset: str) -> Sequence[CommitStatus]:
    """The statuses of a codeset, the last changed first; at most 100."""
    query = select(CommitStatus).where(CommitStatus.project == project, CommitStatus.codeset == codeset)
    return session.exec(query.order_by(col(CommitStatus.updated).desc()).limit(100)).all()


def claim(session: Session, key: Key, now: str, until: str) -> CommitStatus | None:
    """The unsent status, for this process alone `until` then; None where it is sent, given up, or claimed by another one."""
    row = find(session, key)
    if row is None or row.sent or row.due is None or row.claimed > now:
        return None
    row.claimed = until
    session.add(row)
    session.flush()
    return row


def settle(session: Session, key: Key, sent: CommitStatus, *, problem: str = "", due: str | None = None) -> None:
    """End a claim: the host has `sent`, or there is a problem and another attempt is due, if any. A newer status stays to be sent."""
    row = find(session, key)
    if row is None:
        return
    row.claimed = ""
    if (row.sequence, row.state, row.description) == (sent.sequence, sent.state, sent.description):
        row.sent, row.problem = not problem, problem
        row.due, row.attempts = due, row.attempts + bool(problem)
    session.add(row)
    session.flush()


def forget(session: Session, before: str) -> None:
    """Delete the statuses that have not changed since that moment, and are sent or given up."""
    settled = or_(col(CommitStatus.sent), col(CommitStatus.due).is_(None))
    session.exec(sqlalchemy.delete(CommitStatus).where(settled, col(CommitStatus.updated) < before))
