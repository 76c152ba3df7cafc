"""The published model versions of each tracking server, and the watermark of the sweep in its registry."""

from __future__ import annotations

from sqlmodel import Session

from fuseml.store.tables import model_rows


def is_published(session: Session, extension: str, name: str, version: str) -> bool:
    """Whether a webhook or the sweep has enqueued its event."""
    return session.get(model_rows.ModelVersion, (extension, name, version)) is not None


def record_published(session: Session, extension: str, name: str, version: str) -> None:
    """Record that this transaction enqueues its event."""
    if not is_published(session, extension, name, version):
        session.add(model_rows.ModelVersion(extension=extension, name=name, version=version))


def cursor(session: Session, extension: str, start: int) -> model_rows.TrackerCursor:
    """The watermark in the registry of `extension`; `start` (Unix milliseconds) for one that was never read."""
    return session.get(model_rows.TrackerCursor, extension) or model_rows.TrackerCursor(extension=extension, seen=start)


def move(session: Session, extension: str, start: int, newest: int, token: str | None) -> None:
    """Store the progress of a walk: it continues at page `token`, or is complete (None) up to `newest`. `start` is as for `cursor`."""
    row = cursor(session, extension, start)
    row.seen = row.seen if token else max(row.seen, newest)
    row.newest, row.token = newest if token else 0, token
    session.add(row)
