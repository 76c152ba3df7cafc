"""Artifacts and their lineage."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, or_, select

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables import artifact_rows


def record(session: Session, row: artifact_rows.Artifact) -> bool:
    """Remember an artifact. Returns False, and only fills in what was missing, when it is known already: artifacts do not change."""
    known = session.get(artifact_rows.Artifact, row.address)
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
    if session.get(artifact_rows.ArtifactEdge, (source, target, run)) is None:
        session.add(artifact_rows.ArtifactEdge(source=source, target=target, run=run))


def get(session: Session, address: str) -> artifact_rows.Artifact:
    """Raises NotFoundError."""
    row = session.get(artifact_rows.Artifact, address)
    if row is None:
        raise errors.NotFoundError(f"there is no artifact {address}; `fuseml artifact list` shows those that exist")
    return row


def page(session: Session, page: paging.Page, **filters: str | None) -> paging.Slice[artifact_rows.Artifact]:
    """Artifacts by address, whose columns (kind, project, name, run) equal what is given."""
    query = select(artifact_rows.Artifact)
    for name, value in filters.items():
        if value:
            query = query.where(getattr(artifact_rows.Artifact, name) == value)
    return paging.fetch(session, query, page, artifact_rows.Artifact.address)


def made_by(session: Session, runs: Sequence[str]) -> dict[str, list[artifact_rows.Artifact]]:
    """The artifacts of each of the runs, by the run's name."""
    found: dict[str, list[artifact_rows.Artifact]] = {}
    for row in session.exec(select(artifact_rows.Artifact).where(col(artifact_rows.Artifact.run).in_(runs))):
        found.setdefault(row.run or "", []).append(row)
    return found


def edges(session: Session, addresses: Sequence[str]) -> Sequence[artifact_rows.ArtifactEdge]:
    """Every edge that touches one of the addresses."""
    return session.exec(
        select(artifact_rows.ArtifactEdge).where(
            or_(col(artifact_rows.ArtifactEdge.source).in_(addresses), col(artifact_rows.ArtifactEdge.target).in_(addresses))
        )
    ).all()
