"""Policies of retention, the artifacts under them, and the facts that keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlmodel
from sqlalchemy import exists
from sqlmodel import Session, col, select

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import retention
from fuseml.store.tables.artifact_rows import Artifact, ArtifactTag
from fuseml.store.tables.codeset_rows import CodesetRef
from fuseml.store.tables.retention_rows import RetentionPolicy
from fuseml.store.tables.runnable_rows import Runnable

_AT_ONCE = 500
"""Addresses of one query."""


def policies(session: Session, project: str = "", kind: str = "") -> Sequence[RetentionPolicy]:
    """The policies, by kind and project."""
    query = select(RetentionPolicy)
    if project:
        query = query.where(RetentionPolicy.project == project)
    if kind:
        query = query.where(RetentionPolicy.kind == kind)
    return sorted(session.exec(query), key=lambda row: (row.kind, row.project))


def find(session: Session, project: str, kind: str) -> RetentionPolicy | None:
    """The policy of a kind of a project, if any."""
    return session.get(RetentionPolicy, (project, kind))


def get(session: Session, project: str, kind: str) -> RetentionPolicy:
    """Raises NotFoundError."""
    row = find(session, project, kind)
    if row is None:
        raise errors.NotFoundError(
            f"the project {project!r} has no retention policy for {kind}s; `fuseml artifact retention set` makes one"
        )
    return row


def put(session: Session, project: str, kind: str, policy: retention.Policy, by: str, now: str) -> RetentionPolicy:
    """Set the policy of a kind of a project. The same again changes nothing; another one is applied from the begin."""
    row = find(session, project, kind)
    if row is not None and (row.newest, row.days) == (policy.newest, policy.days):
        return row
    row = row or RetentionPolicy(project=project, kind=kind, by=by, updated=now)
    row.newest, row.days, row.by, row.updated, row.position, row.walked = policy.newest, policy.days, by, now, "", ""
    session.add(row)
    return row


def remove(session: Session, project: str, kind: str) -> None:
    """Raises NotFoundError."""
    session.delete(get(session, project, kind))


def unset(project: str, kind: str, policy: retention.Policy) -> RetentionPolicy:
    """A policy that is not stored."""
    return RetentionPolicy(project=project, kind=kind, newest=policy.newest, days=policy.days, by="", updated="")


def rule(row: RetentionPolicy) -> retention.Policy:
    """The domain's view of a row."""
    return retention.Policy(row.newest, row.days)


def under(session: Session, policy: RetentionPolicy, after: str, limit: int, *, before: str | None = None) -> Sequence[Artifact]:
    """The artifacts of a kind of a project by address, behind `after`; with `before` those without a tag that were recorded earlier."""
    query = select(Artifact).where(Artifact.project == policy.project, Artifact.kind == policy.kind)
    if after:
        query = query.where(col(Artifact.address) > after)
    if before is not None:
        query = query.where(col(Artifact.created) < before, ~exists().where(col(ArtifactTag.address) == Artifact.address))
    return session.exec(query.order_by(col(Artifact.address)).limit(limit)).all()


def newer(session: Session, rows: Sequence[Artifact], most: Mapping[str, int]) -> dict[str, int]:
    """Address -> the number of newer versions of its name, counted up to the number of its kind and project in `most` (`kind://project`)."""
    ranks: dict[tuple[str, str, str], dict[str, int]] = {}
    counted: dict[str, int] = {}
    for row in rows:
        limit, name = most.get(f"{row.kind}://{row.project}", 0), (row.kind, row.project, row.name)
        if name not in ranks:
            table = Artifact
            query = select(table.address).where(table.name == row.name, table.project == row.project, table.kind == row.kind)
            newest = session.exec(query.order_by(col(table.created).desc(), col(table.address).desc()).limit(limit)).all() if limit else ()
            ranks[name] = {address: position for position, address in enumerate(newest)}
        counted[row.address] = ranks[name].get(row.address, limit)
    return counted


def tags(session: Session, addresses: Sequence[str]) -> dict[str, list[str]]:
    """Address -> its tags."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(addresses), _AT_ONCE):
        query = select(ArtifactTag.address, ArtifactTag.tag).where(col(ArtifactTag.address).in_(addresses[start : start + _AT_ONCE]))
        for address, tag in session.exec(query):
            found.setdefault(address, []).append(tag)
    return found


def refs(session: Session, rows: Sequence[Artifact]) -> dict[str, list[str]]:
    """Address of a codeset version -> the refs that are at it."""
    codes = {(row.project, row.name) for row in rows if row.kind == "code"}
    found: dict[str, list[str]] = {}
    for project, codeset in sorted(codes):
        query = select(CodesetRef.ref, CodesetRef.commit).where(CodesetRef.project == project, CodesetRef.codeset == codeset)
        for ref, commit in session.exec(query.order_by(col(CodesetRef.ref))):
            found.setdefault(str(artifact.code(project, codeset, commit)), []).append(ref)
    return found


def registered_runnables(session: Session, addresses: Sequence[str]) -> set[str]:
    """Those among the addresses that are registered runnables."""
    return {
        address
        for start in range(0, len(addresses), _AT_ONCE)
        for address in session.exec(select(Runnable.address).where(col(Runnable.address).in_(addresses[start : start + _AT_ONCE])))
    }


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk of the sweep through the artifacts of a policy, as it was set at a moment."""

    project: str
    kind: str
    updated: str


def is_current(session: Session, walk: Walk) -> bool:
    """Whether the policy is still the one of the walk."""
    row = find(session, walk.project, walk.kind)
    return row is not None and row.updated == walk.updated


def move(session: Session, walk: Walk, position: str, now: str) -> None:
    """Continue the walk at an address; an empty one ends it. Does nothing for a policy that has changed since."""
    row = find(session, walk.project, walk.kind)
    if row is not None and row.updated == walk.updated:
        row.position = position
        row.walked = row.walked if position else now
        session.add(row)


def move_leftovers(session: Session, walk: Walk, position: str, now: str) -> None:
    """As `move`, for the leftovers in the store."""
    row = find(session, walk.project, walk.kind)
    if row is not None:
        row.leftovers = position
        row.swept = row.swept if position else now
        session.add(row)


def forget_project(session: Session, project: str) -> None:
    """Remove the policies of a project that is deleted."""
    session.exec(sqlmodel.delete(RetentionPolicy).where(col(RetentionPolicy.project) == project))
