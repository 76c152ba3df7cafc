"""Artifacts and their lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, or_, select

from fuseml.domain import artifact, errors
from fuseml.store import paging
from fuseml.store.tables.artifact_rows import Artifact, ArtifactEdge


def record(session: Session, row: Artifact) -> bool:
    """Store an artifact. Returns False for a known one, which is immutable: only its missing fields are filled in."""
    stored = session.get(Artifact, row.address)
    if stored is None:
        session.add(row)
        session.flush()
        return True
    stored.run = stored.run or row.run
    stored.details = _completed(stored, row.details)
    session.add(stored)
    return False


def digest(session: Session, address: str) -> str | None:
    """The digest of the files of a model; None for an unknown model, or one without a digest."""
    row = session.get(Artifact, address)
    return artifact.digest_of(row.details.get("digest")) if row else None


def note_digest(session: Session, uri: str, digest: str) -> bool:
    """Store the digest of a model that is known by `uri`; a stored digest stays. Returns whether there is such a model."""
    _, _, named = uri.partition(":/")
    name, _, version = named.rpartition("/")
    known = False
    for row in session.exec(select(Artifact).where(Artifact.kind == "model", Artifact.name == name, Artifact.version == version)):
        if row.details.get("uri") == uri:
            known = True
            row.details = _completed(row, {"digest": digest})
            session.add(row)
    return known


def _completed(row: Artifact, details: Mapping[str, Any]) -> dict[str, Any]:
    """The details of the row, and those among `details` that it does not have."""
    # Text of another form is no digest, but a tag that a step has set: it must not keep out the true one.
    own = {key: value for key, value in row.details.items() if row.kind != "model" or key != "digest" or artifact.digest_of(value)}
    return {**details, **own}


def link(session: Session, source: str, target: str, run: str) -> None:
    """Store a lineage edge: `run` produced `target` from `source`."""
    if session.get(ArtifactEdge, (source, target, run)) is None:
        session.add(ArtifactEdge(source=source, target=target, run=run))


def get(session: Session, address: str) -> Artifact:
    """Raises NotFoundError."""
    row = session.get(Artifact, address)
    if row is None:
        raise errors.NotFoundError(f"there is no artifact {address}; `fuseml artifact list` shows those that exist")
    return row


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[Artifact]:
    """Artifacts by address. `filters` are values of the columns kind, project, name and run."""
    query = select(Artifact)
    for name, value in filters.items():
        if value:
            query = query.where(getattr(Artifact, name) == value)
    return paging.fetch(session, query, page, Artifact.address)


def produced_by(session: Session, runs: Sequence[str]) -> dict[str, list[Artifact]]:
    """Run name -> the artifacts that the run produced."""
    produced: dict[str, list[Artifact]] = {}
    for row in session.exec(select(Artifact).where(col(Artifact.run).in_(runs))):
        produced.setdefault(row.run or "", []).append(row)
    return produced


def edges(session: Session, addresses: Sequence[str]) -> Sequence[ArtifactEdge]:
    """Every edge that starts or ends at one of the addresses."""
    return session.exec(
        select(ArtifactEdge).where(or_(col(ArtifactEdge.source).in_(addresses), col(ArtifactEdge.target).in_(addresses)))
    ).all()
