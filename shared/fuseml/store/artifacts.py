"""Artifacts: their descriptors and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
import sqlmodel
from sqlmodel import Session, col, select

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import descriptor
from fuseml.store import removals
from fuseml.store.tables.artifact_rows import Artifact, ArtifactMetric

_FACTS = ("run", "step", "type", "format", "framework", "framework_version", "framework_order", "digest", "size", "location")

_AT_ONCE = 500
"""Addresses of one query."""

_FILTERED = ("type", "format", "framework", "framework_version")


def record(
    session: Session, row: Artifact, metrics: Mapping[str, float] | None = None, *, needs_contents: bool = False, proof: str | None = None
) -> bool:
    """Store an artifact. Returns False for a known one, which is immutable: only its missing fields are filled in.

    Raises TemporaryError while its contents are being deleted, and with `needs_contents` also for deleted ones without `proof` (store.removals).
    """
    stored = session.get(Artifact, row.address)
    if stored is None:
        removals.admit(session, row.address, proof, needs_contents=needs_contents)
        session.add(row)
        session.flush()
        _add_metrics(session, row.address, metrics or {})
        return True
    for name in _FACTS:
        if getattr(stored, name) is None:
            setattr(stored, name, getattr(row, name))
    stored.details = _completed(stored, row.details)
    session.add(stored)
    _add_metrics(session, row.address, metrics or {})
    return False


def completed(session: Session, row: Artifact, metrics: Mapping[str, float]) -> list[str]:
    """The facts for filters that a known artifact lacks and `record` would fill in; none of an unknown artifact."""
    stored = session.get(Artifact, row.address)
    if stored is None:
        return []
    known = metrics_of(session, [row.address]).get(row.address, {})
    facts = [name for name in _FILTERED if getattr(stored, name) is None and getattr(row, name) is not None]
    return [*facts, *(f"metrics.{name}" for name in sorted(metrics) if name not in known)]


def _add_metrics(session: Session, address: str, metrics: Mapping[str, float]) -> None:
    known = metrics_of(session, [address]).get(address, {}) if metrics else {}
    session.add_all(ArtifactMetric(address=address, name=name, value=value) for name, value in metrics.items() if name not in known)


def digest(session: Session, address: str) -> str | None:
    """The digest of the files of a model; None for an unknown model, or one without a digest."""
    row = session.get(Artifact, address)
    return artifact.digest_of(row.details.get("digest")) or artifact.digest_of(row.digest) if row else None


def note_digest(session: Session, uri: str, digest: str) -> bool:
    """Store the digest of a model that is known by `uri`; a stored digest stays. Returns whether there is such a model."""
    _, _, named = uri.partition(":/")
    name, _, version = named.rpartition("/")
    known = False
    for row in session.exec(select(Artifact).where(Artifact.kind == "model", Artifact.name == name, Artifact.version == version)):
        if row.details.get("uri") == uri:
            known = True
            row.details = _completed(row, {"digest": digest})
            row.digest = row.digest or descriptor.digest_of(row.details["digest"])
            session.add(row)
    return known


def _completed(row: Artifact, details: Mapping[str, Any]) -> dict[str, Any]:
    """The details of the row, and those among `details` that it does not have."""
    # Text of another form is no digest, but a tag that a step has set: it must not keep out the true one.
    own = {key: value for key, value in row.details.items() if row.kind != "model" or key != "digest" or artifact.digest_of(value)}
    return {**details, **own}


def find(session: Session, address: str) -> Artifact | None:
    """The artifact; None for an unknown address."""
    return session.get(Artifact, address)


def get(session: Session, address: str) -> Artifact:
    """Raises NotFoundError."""
    row = find(session, address)
    if row is None:
        raise errors.NotFoundError(f"there is no artifact {address}; `fuseml artifact list` shows those that exist")
    return row


def known(session: Session, addresses: Sequence[str]) -> set[str]:
    """Those among the addresses that have an artifact."""
    return set(session.exec(select(Artifact.address).where(col(Artifact.address).in_(addresses))))


def named(session: Session, kind: str, project: str, name: str) -> Sequence[Artifact]:
    """The versions of a name, the newest first."""
    same = (col(Artifact.name) == name, col(Artifact.project) == project, col(Artifact.kind) == kind)
    return session.exec(select(Artifact).where(*same).order_by(col(Artifact.created).desc(), col(Artifact.address))).all()


def of_addresses(session: Session, addresses: Sequence[str]) -> Sequence[Artifact]:
    """The artifacts at the addresses that have one."""
    return [
        row
        for start in range(0, len(addresses), _AT_ONCE)
        for row in session.exec(select(Artifact).where(col(Artifact.address).in_(addresses[start : start + _AT_ONCE])))
    ]


def metrics_of(session: Session, addresses: Sequence[str]) -> dict[str, dict[str, float]]:
    """Address -> metrics, of the artifacts that have some."""
    found: dict[str, dict[str, float]] = {}
    table = ArtifactMetric
    # Columns, not objects: a page of a search has hundreds of metrics, and an object takes longer than all of its query.
    query = select(table.address, table.name, table.value).where(col(table.address).in_(addresses))
    for address, name, value in session.exec(query.order_by(col(table.address), col(table.name))):
        found.setdefault(address, {})[name] = value
    return found


def produced_by(session: Session, runs: Sequence[str]) -> dict[str, list[Artifact]]:
    """Run name -> the artifacts that the run produced."""
    produced: dict[str, list[Artifact]] = {}
    for row in session.exec(select(Artifact).where(col(Artifact.run).in_(runs))):
        produced.setdefault(row.run or "", []).append(row)
    return produced


def delete(session: Session, row: Artifact) -> None:
    """Remove the descriptor and its metrics. Lineage stays."""
    session.exec(sqlmodel.delete(ArtifactMetric).where(col(ArtifactMetric.address) == row.address))
    session.delete(row)


def version_before(session: Session, row: Artifact) -> Artifact | None:
    """The version of the same name that was recorded last before this one."""
    same = (col(Artifact.name) == row.name, col(Artifact.project) == row.project, col(Artifact.kind) == row.kind)
    earlier = sqlalchemy.or_(
        col(Artifact.created) < row.created, sqlalchemy.and_(col(Artifact.created) == row.created, col(Artifact.address) < row.address)
    )
    newest_first = (col(Artifact.created).desc(), col(Artifact.address).desc())
    return session.exec(select(Artifact).where(*same, earlier).order_by(*newest_first).limit(1)).first()
