"""Mirrors: the stores that the steps of a project read the artifacts of a kind from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors
from fuseml.store.tables.artifact_rows import ArtifactMirror


def mirrors(session: Session, project: str = "", kind: str = "") -> Sequence[ArtifactMirror]:
    """The mirrors, by project and kind."""
    query = select(ArtifactMirror)
    if project:
        query = query.where(ArtifactMirror.project == project)
    if kind:
        query = query.where(ArtifactMirror.kind == kind)
    return sorted(session.exec(query), key=lambda row: (row.project, row.kind))


def find(session: Session, project: str, kind: str) -> ArtifactMirror | None:
    """The mirror of a kind of a project, if any."""
    return session.get(ArtifactMirror, (project, kind))


def get(session: Session, project: str, kind: str) -> ArtifactMirror:
    """Raises NotFoundError."""
    row = find(session, project, kind)
    if row is None:
        raise errors.NotFoundError(f"the project {project!r} has no mirror for {kind}s; `fuseml artifact mirror set` makes one")
    return row


def put(session: Session, project: str, kind: str, store: Mapping[str, Any], by: str, now: str) -> ArtifactMirror:
    """Set the mirror of a kind of a project. The same again changes nothing."""
    row = find(session, project, kind)
    if row is not None and row.store == store:
        return row
    row = row or ArtifactMirror(project=project, kind=kind, store={}, by=by, updated=now)
    row.store, row.by, row.updated = dict(store), by, now
    session.add(row)
    return row


def forget_project(session: Session, project: str) -> None:
    """Remove the mirrors of a project that is deleted."""
    session.exec(sqlalchemy.delete(ArtifactMirror).where(col(ArtifactMirror.project) == project))


def remove(session: Session, project: str, kind: str) -> None:
    """Raises NotFoundError."""
    session.delete(get(session, project, kind))
