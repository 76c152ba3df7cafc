"""Contents of artifacts that retention has removed: they stay while they are due later, and while anything refers to them.

A new record of the address before the deletion begins keeps the contents. From `taken` on a part of them may be gone, so that a record waits
for the end of the deletion, and must then prove that the contents were stored again: with the moment in `gone` that it has read before it asked
the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from fuseml.domain import errors
from fuseml.store.tables.artifact_rows import Artifact, ArtifactCopy
from fuseml.store.tables.retention_rows import ArtifactRemoval

_DETAILS = ("store", "extension")


def facts_of(row: Artifact) -> dict[str, Any]:
    """The facts about an artifact that lead to the store of its contents."""
    details = {name: row.details[name] for name in _DETAILS if row.details.get(name)}
    return {"format": row.format, "location": row.location, "details": details}


def add(session: Session, address: str, facts: dict[str, Any], due: str) -> None:
    """Delete the contents at an address in a store, whose record goes in this transaction, from that moment on."""
    stored = session.get(ArtifactRemoval, address) or ArtifactRemoval(address=address, facts={}, due="")
    stored.facts, stored.due, stored.taken, stored.gone, stored.problem = facts, due, None, None, ""
    session.add(stored)


def find(session: Session, address: str) -> ArtifactRemoval | None:
    """The removal of the contents at an address, if any."""
    return session.get(ArtifactRemoval, address)


def gone(session: Session, address: str) -> str | None:
    """The moment at which the contents at an address were deleted; None for contents that were not."""
    row = find(session, address)
    return row.gone if row else None


def admit(session: Session, address: str, proof: str | None, *, needs_contents: bool) -> None:
    """Let an artifact be recorded: its contents stay from now on. `proof` is the moment of their deletion that was known before its store was asked.

    Raises TemporaryError while the contents are deleted, and without proof for deleted ones.
    """
    row = find(session, address)
    if row is None:
        return
    if row.taken is not None and row.gone is None:
        raise errors.TemporaryError(f"retention is deleting the contents of {address}; store and record it again in a minute")
    if row.gone is not None and needs_contents and row.gone != proof:
        raise errors.TemporaryError(f"retention has deleted the contents of {address} meanwhile; store and record it again")
    session.delete(row)


def due(session: Session, now: str, limit: int) -> Sequence[ArtifactRemoval]:
    """The contents to delete now, in the order of their moments."""
    table = ArtifactRemoval
    query = select(table).where(col(table.gone).is_(None), col(table.due) <= now)
    return session.exec(query.order_by(col(table.due), col(table.address)).limit(limit)).all()


def take(session: Session, seen: ArtifactRemoval, now: str, until: str) -> bool:
    """Begin the deletion that was `seen`, alone until that moment; whether it is due still. Contents that anything refers to stay."""
    row = find(session, seen.address)
    if row is None or row.gone is not None or row.due != seen.due:
        return False
    copied = select(ArtifactCopy.address).where(ArtifactCopy.copy_address == row.address).limit(1)
    if session.get(Artifact, row.address) is not None or session.exec(copied).first() is not None:
        session.delete(row)
        return False
    location = row.facts.get("location")
    if location and session.exec(select(Artifact.address).where(Artifact.location == location).limit(1)).first() is not None:
        postpone(session, row.address, until, "another artifact is at the same location")
        return False
    row.taken, row.due = now, until
    session.add(row)
    return True


def finish(session: Session, seen: ArtifactRemoval, taken: str, now: str) -> None:
    """The contents are deleted."""
    row = find(session, seen.address)
    if row is not None and row.taken == taken:
        row.gone, row.problem = now, ""
        session.add(row)


def postpone(session: Session, address: str, due: str, problem: str) -> None:
    """Try the deletion again at a moment."""
    row = find(session, address)
    if row is not None and row.gone is None:
        row.due, row.problem = due, problem[:1000]
        session.add(row)


def drop(session: Session, address: str) -> None:
    """Leave the contents where they are: their store is not FuseML's own. Not after the deletion has begun."""
    row = find(session, address)
    if row is not None and row.taken is None:
        session.delete(row)
