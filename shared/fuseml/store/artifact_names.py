"""Tags and labels of artifacts, and the record of their changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy
import sqlmodel
from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import names
from fuseml.store.tables.artifact_rows import Artifact, ArtifactChange, ArtifactLabel, ArtifactTag

MOST_LABELS = 50
"""Labels of one artifact."""


def tagged(session: Session, reference: artifact.Tagged) -> str:
    """The address that the tag is on. Raises NotFoundError."""
    row = session.get(ArtifactTag, (reference.kind, reference.project, reference.name, reference.tag))
    if row is None:
        raise errors.NotFoundError(f"there is no tag {reference}")
    return row.address


def placed(session: Session, row: Artifact, tag: str) -> names.Placed | None:
    """The place of a tag among the versions of the artifact's name; None for an unknown tag."""
    stored = session.get(ArtifactTag, (row.kind, row.project, row.name, tag))
    return names.Placed(stored.address, stored.immutable) if stored else None


class Tag(NamedTuple):
    """A tag that `by` has set on the artifact at `address`. An immutable one does not move."""

    address: str
    tag: str
    immutable: bool
    by: str
    updated: str


def tags(session: Session, addresses: Sequence[str]) -> dict[str, list[Tag]]:
    """Address -> its tags, by name."""
    found: dict[str, list[Tag]] = {}
    # Columns, not objects, for the time of a page of a search.
    query: Any = sqlalchemy.select(*(getattr(ArtifactTag, name) for name in Tag._fields))
    for row in session.exec(query.where(col(ArtifactTag.address).in_(addresses)).order_by(col(ArtifactTag.tag))):
        found.setdefault(row.address, []).append(Tag(*row))
    return found


def put_tag(session: Session, row: Artifact, tag: str, place: names.Placed, by: str, now: str) -> ArtifactChange | None:
    """Put a tag on the artifact. None, without effect, if it is there with the same property."""
    stored = session.get(ArtifactTag, (row.kind, row.project, row.name, tag))
    if stored is not None and (stored.address, stored.immutable) == (place.address, place.immutable):
        return None
    previous = stored.address if stored else None
    stored = stored or ArtifactTag(
        kind=row.kind, project=row.project, name=row.name, tag=tag, address="", immutable=False, by="", updated=""
    )
    stored.address, stored.immutable, stored.by, stored.updated = place.address, place.immutable, by, now
    session.add(stored)
    return _noted(session, row, "tagged", tag, by, now, previous=previous if previous != row.address else None, immutable=place.immutable)


def remove_tag(session: Session, row: Artifact, tag: str, by: str, now: str) -> ArtifactChange:
    """Remove a tag from the artifact. Raises NotFoundError."""
    stored = session.get(ArtifactTag, (row.kind, row.project, row.name, tag))
    if stored is None or stored.address != row.address:
        raise errors.NotFoundError(f"{row.address} has no tag {tag!r}")
    session.delete(stored)
    return _noted(session, row, "untagged", tag, by, now)


def labels(session: Session, addresses: Sequence[str]) -> dict[str, list[str]]:
    """Address -> its labels, sorted."""
    found: dict[str, list[str]] = {}
    table = ArtifactLabel
    query = select(table.address, table.label).where(col(table.address).in_(addresses)).order_by(col(table.label))
    for address, label in session.exec(query):
        found.setdefault(address, []).append(label)
    return found


def add_label(session: Session, row: Artifact, label: str, by: str, now: str) -> ArtifactChange | None:
    """Put a label on the artifact. None, without effect, if it is there. Raises ConflictError for one too many."""
    present = labels(session, [row.address]).get(row.address, [])
    if label in present:
        return None
    if len(present) >= MOST_LABELS:
        raise errors.ConflictError(f"{row.address} has {MOST_LABELS} labels, the most that an artifact can have; remove one first")
    session.add(ArtifactLabel(address=row.address, label=label))
    return _noted(session, row, "labelled", label, by, now)


def remove_label(session: Session, row: Artifact, label: str, by: str, now: str) -> ArtifactChange:
    """Remove a label. Raises NotFoundError."""
    stored = session.get(ArtifactLabel, (row.address, label))
    if stored is None:
        raise errors.NotFoundError(f"{row.address} has no label {label!r}")
    session.delete(stored)
    return _noted(session, row, "unlabelled", label, by, now)


def note_deletion(session: Session, row: Artifact, by: str, now: str, reason: str = "") -> ArtifactChange:
    """Remove the labels of an artifact that is deleted, and record the deletion with its digest; the reason stands as its name."""
    session.exec(sqlmodel.delete(ArtifactLabel).where(col(ArtifactLabel.address) == row.address))
    return _noted(session, row, "deleted", reason, by, now, digest=row.digest)


def deletion(session: Session, address: str) -> ArtifactChange | None:
    """The last deletion of an artifact at this address; None if none was deleted."""
    return session.exec(_deletions(address)).first()


def deleted_digest(session: Session, address: str) -> str | None:
    """The digest that an artifact at this address had when it was deleted, the last one that had any; None without one."""
    deleted = session.exec(_deletions(address).where(col(ArtifactChange.digest).is_not(None))).first()
    return deleted.digest if deleted else None


def _deletions(address: str) -> SelectOfScalar[ArtifactChange]:
    table = ArtifactChange
    return select(table).where(table.address == address, table.change == "deleted").order_by(col(table.sequence).desc()).limit(1)


def is_deleted_model(session: Session, name: str, version: str) -> bool:
    """Whether a model of this name and version was deleted in any project."""
    table, end = ArtifactChange, f"/{name}/{version}"
    query = select(table.address).where(table.change == "deleted", col(table.address).endswith(end, autoescape=True))
    found = (artifact.Address.parse(address) for address in session.exec(query))
    return any((address.kind, address.name, address.version) == ("model", name, version) for address in found)


def changes(session: Session, address: str, most: int) -> Sequence[ArtifactChange]:
    """The changes of the artifact's names, and those that took a tag from it, newest first."""
    table = ArtifactChange
    query = select(table).where(or_(col(table.address) == address, col(table.previous) == address))
    return session.exec(query.order_by(col(table.sequence).desc()).limit(most)).all()


def _noted(
    session: Session,
    row: Artifact,
    change: str,
    name: str,
    by: str,
    now: str,
    *,
    previous: str | None = None,
    immutable: bool | None = None,
    digest: str | None = None,
) -> ArtifactChange:
    noted = ArtifactChange(
        address=row.address, change=change, name=name, previous=previous, immutable=immutable, digest=digest, by=by, made=now
    )
    session.add(noted)
    session.flush()
    return noted
