"""The secrets that webhooks are signed with, sealed: the current one of a codeset or tracking server, and those that it replaced.

A replaced one stays good for a while: who signs with it, a git host or an MLflow server, may learn of the new one later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.store.tables import webhook_rows

if TYPE_CHECKING:
    from fuseml.store.tables import codeset_rows


def of_codeset(session: Session, row: codeset_rows.Codeset, now: str) -> Sequence[str]:
    """What the codeset's deliveries may be signed with at `now`, the current secret first."""
    return [row.webhook_secret, *_former(session, _codeset(row), now)]


def of_tracker(session: Session, extension: str, now: str) -> Sequence[str]:
    """What the tracking server's deliveries may be signed with at `now`, the current secret first; nothing where it never got one."""
    current = session.get(webhook_rows.TrackerWebhook, extension)
    return [current.secret, *_former(session, _tracker(extension), now)] if current else []


def replace_of_codeset(session: Session, row: codeset_rows.Codeset, sealed: str, until: str) -> None:
    """A new secret; the one so far is good `until` then."""
    session.add(webhook_rows.FormerSecret(owner=_codeset(row), secret=row.webhook_secret, until=until))
    row.webhook_secret = sealed
    session.add(row)


def replace_of_tracker(session: Session, extension: str, sealed: str, until: str) -> bool:
    """A new secret, or the first one; one that there was is good `until` then. Returns whether there was one."""
    current = session.get(webhook_rows.TrackerWebhook, extension)
    if current is None:
        session.add(webhook_rows.TrackerWebhook(extension=extension, secret=sealed))
        return False
    session.add(webhook_rows.FormerSecret(owner=_tracker(extension), secret=current.secret, until=until))
    current.secret = sealed
    session.add(current)
    return True


def forget_codeset(session: Session, project: str, name: str) -> None:
    """All former secrets of a codeset, which is deleted."""
    _delete(session, webhook_rows.FormerSecret.owner == f"codeset {project}/{name}")


def forget_tracker(session: Session, extension: str) -> None:
    """All secrets of a tracking server, which is deleted."""
    _delete(session, webhook_rows.FormerSecret.owner == _tracker(extension))
    current = session.get(webhook_rows.TrackerWebhook, extension)
    if current is not None:
        session.delete(current)


def forget_former(session: Session, now: str) -> None:
    """Those whose time is over."""
    _delete(session, col(webhook_rows.FormerSecret.until) <= now)


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Pass the sealed secrets of tracking servers and all former ones through `change(owner, value)`."""
    for tracker in session.exec(select(webhook_rows.TrackerWebhook)):
        tracker.secret = change(_tracker(tracker.extension), tracker.secret)
        session.add(tracker)
    for former in session.exec(select(webhook_rows.FormerSecret)):
        former.secret = change(former.owner, former.secret)
        session.add(former)


def _former(session: Session, owner: str, now: str) -> Sequence[str]:
    query = select(webhook_rows.FormerSecret.secret).where(
        webhook_rows.FormerSecret.owner == owner, col(webhook_rows.FormerSecret.until) > now
    )
    return session.exec(query.order_by(col(webhook_rows.FormerSecret.sequence).desc())).all()


def _delete(session: Session, condition: object) -> None:
    session.exec(sqlalchemy.delete(webhook_rows.FormerSecret).where(condition))  # type: ignore[arg-type]


def _codeset(row: codeset_rows.Codeset) -> str:
    return f"codeset {row.project}/{row.name}"


def _tracker(extension: str) -> str:
    return f"tracking server {extension}"
