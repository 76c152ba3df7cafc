"""Copies of the contents of artifacts in other stores than their own: further places of the same artifact."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.store import removals
from fuseml.store.tables.artifact_rows import ArtifactCopy


def record(session: Session, copy: ArtifactCopy, proof: str | None) -> None:
    """Record the place of an artifact's contents in a store; it replaces a former one there.

    `proof` is the moment of a deletion of these contents that was known before the store was asked (store.removals). Raises TemporaryError
    while they are being deleted, and without proof after it.
    """
    removals.admit(session, copy.copy_address, proof, needs_contents=True)
    session.merge(copy)


def of(session: Session, addresses: Sequence[str]) -> dict[str, list[ArtifactCopy]]:
    """Address -> the copies of its artifact, by store; of the artifacts that have some."""
    found: dict[str, list[ArtifactCopy]] = {}
    query = select(ArtifactCopy).where(col(ArtifactCopy.address).in_(addresses))
    for copy in session.exec(query.order_by(col(ArtifactCopy.address), col(ArtifactCopy.store))):
        found.setdefault(copy.address, []).append(copy)
    return found


def discard(session: Session, address: str, due: str) -> list[str]:
    """Delete the copies of an artifact, whose descriptor goes in this transaction; their contents go from that moment on. Their addresses."""
    copies = of(session, [address]).get(address, [])
    for copy in copies:
        removals.add(session, copy.copy_address, {"format": None, "location": copy.location, "details": {"store": copy.store}}, due)
        session.delete(copy)
    return [copy.copy_address for copy in copies]
