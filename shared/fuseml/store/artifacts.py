"""Artifacts and their lineage."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, or_, select

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables.artifact_rows import Artifact, ArtifactEdge


def record(session: Session, row: Artifact) -> bool:
    """Remember an artifact. Returns False, and only fills in what was missing, when it is known already: artifacts do not change."""
    known = session.get(Artifact, row.address)
    if known is None:
        session.add(row)
        session.flush()
        return True
    known.run = known.run or row.run
    known.details = {**row.details, **known.details}
    session.add(known)
    return False


def link(session: Session, source: str, target: str, run: str) -> None:
    """Remember that `target` was made from `source` by `run`."""
    if session.get(ArtifactEdge, (source, target, run)) is None:
        session.add(ArtifactEdge(source=source, target=target, run=run))


def get(session: Session, address: str) -> Artifact:
    """Raises NotFoundError."""
    row = session.get(Artifact, address)
    if row is None:
        raise errors.NotFoundError(f"there is no artifact {address}; `fuseml artifact list` shows those that exist")
    return row


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[Artifact]:
    """Artifacts by address, whose columns (kind, project, name, run) equal what is given."""
    query = select(Artifact)
    for name, value in filters.items():
        if value:
            query = query.where(getattr(Artifact, name) == value)
    return paging.fetch(session, query, page, Artifact.address)


def made_by(session: Session, runs: Sequence[str]) -> dict[str, list[Artifact]]:
    """The artifacts of each of the runs, by the run's name."""
    found: dict[str, list[Artifact]] = {}
    for row in session.exec(select(Artifact).where(col(Artifact.run).in_(runs))):
        found.setdefault(row.run or "", []).append(row)
    return found


def edges(session: Session, addresses: Sequence[str]) -> Sequence[ArtifactEdge]:
    """Every edge that touches one of the addresses."""
    return session.exec(
        select(ArtifactEdge).where(or_(col(ArtifactEdge.source).in_(addresses), col(ArtifactEdge.target).in_(addresses)))
    ).all()
