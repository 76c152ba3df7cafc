"""Sealed secrets of webhooks: the current one of each codeset and tracking server, and replaced ones.

A replaced secret stays valid for a while, because the git host or MLflow server may get the new one later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.store.tables import webhook_rows

if TYPE_CHECKING:
    from fuseml.store.tables import codeset_rows, origin_rows


def of_codeset(session: Session, row: codeset_rows.Codeset, now: str) -> Sequence[str]:
    """The valid secrets of the codeset at `now`, the current one first."""
    return [row.webhook_secret, *_former(session, _codeset(row), now)]


def of_tracker(session: Session, extension: str, now: str) -> Sequence[str]:
    """The valid secrets of the tracking server at `now`, the current one first; empty if it has none."""
    current = session.get(webhook_rows.TrackerWebhook, extension)
    return [current.secret, *_former(session, _tracker(extension), now)] if current else []


def replace_of_codeset(session: Session, row: codeset_rows.Codeset, sealed: str, until: str) -> None:
    """Store a new secret; the current one stays valid `until` then."""
    session.add(webhook_rows.FormerSecret(owner=_codeset(row), secret=row.webhook_secret, until=until))
    row.webhook_secret = sealed
    session.add(row)


def revoke_former(session: Session, row: codeset_rows.Codeset) -> None:
    """End the validity of all replaced secrets of a codeset and its origin now."""
    for owner in (_codeset(row), _origin(row.project, row.name)):
        _delete(session, webhook_rows.FormerSecret.owner == owner)


def replace_of_tracker(session: Session, extension: str, sealed: str, until: str) -> bool:
    """Store a new secret; a current one stays valid `until` then. Returns whether there was one."""
    current = session.get(webhook_rows.TrackerWebhook, extension)
    if current is None:
        session.add(webhook_rows.TrackerWebhook(extension=extension, secret=sealed))
        return False
    session.add(webhook_rows.FormerSecret(owner=_tracker(extension), secret=current.secret, until=until))
    current.secret = sealed
    session.add(current)
    return True


def forget_codeset(session: Session, project: str, name: str) -> None:
    """Delete all former secrets of a deleted codeset, and of its origin."""
    for owner in (f"codeset {project}/{name}", _origin(project, name)):
        _delete(session, webhook_rows.FormerSecret.owner == owner)


def forget_tracker(session: Session, extension: str) -> None:
    """Delete all secrets of a deleted tracking server."""
    _delete(session, webhook_rows.FormerSecret.owner == _tracker(extension))
    current = session.get(webhook_rows.TrackerWebhook, extension)
    if current is not None:
        session.delete(current)


def forget_former(session: Session, now: str) -> None:
    """Delete former secrets that are not valid any more."""
    _delete(session, col(webhook_rows.FormerSecret.until) <= now)


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Pass the sealed secrets of tracking servers and all former ones through `change(owner, value)`."""
    for tracker in session.exec(select(webhook_rows.TrackerWebhook)):
        tracker.secret = change(_tracker(tracker.extension), tracker.secret)
        session.add(tracker)
    for former in session.exec(select(webhook_rows.FormerSecret)):
        former.secret = change(former.owner, former.secret)
        session.add(former)


def of_origin(session: Session, row: origin_rows.CodesetOrigin, now: str) -> Sequence[str]:
    """The valid secrets of an origin's webhooks at `now`, the current one first."""
    return [row.secret, *_former(session, _origin(row.project, row.codeset), now)]


def replace_of_origin(session: Session, row: origin_rows.CodesetOrigin, sealed: str, until: str) -> None:
    """Store a new secret; the current one stays valid `until` then."""
    session.add(webhook_rows.FormerSecret(owner=_origin(row.project, row.codeset), secret=row.secret, until=until))
    row.secret = sealed
    session.add(row)


def _former(session: Session, owner: str, now: str) -> Sequence[str]:
    query = select(webhook_rows.FormerSecret.secret).where(
        webhook_rows.FormerSecret.owner == owner, col(webhook_rows.FormerSecret.until) > now
    )
    return session.exec(query.order_by(col(webhook_rows.FormerSecret.sequence).desc())).all()


def _delete(session: Session, condition: object) -> None:
    session.exec(sqlalchemy.delete(webhook_rows.FormerSecret).where(condition))  # type: ignore[arg-type]


def _codeset(row: codeset_rows.Codeset) -> str:
    return f"codeset {row.project}/{row.name}"


def _origin(project: str, codeset: str) -> str:
    return f"origin of {project}/{codeset}"


def _tracker(extension: str) -> str:
    return f"tracking server {extension}"
