"""Which model versions of which tracking server were announced, and how far its registry was read."""

from __future__ import annotations

from sqlmodel import Session

from fuseml.store.tables import model_rows


def is_announced(session: Session, extension: str, name: str, version: str) -> bool:
    """Whether somebody was told of it, by a webhook or by the sweep."""
    return session.get(model_rows.ModelVersion, (extension, name, version)) is not None


def announce(session: Session, extension: str, name: str, version: str) -> None:
    """Remember that it is told of in this transaction."""
    if not is_announced(session, extension, name, version):
        session.add(model_rows.ModelVersion(extension=extension, name=name, version=version))


def cursor(session: Session, extension: str, start: int) -> model_rows.TrackerCursor:
    """How far the registry of `extension` was read; up to `start` (Unix milliseconds) when never."""
    return session.get(model_rows.TrackerCursor, extension) or model_rows.TrackerCursor(extension=extension, seen=start)


def move(session: Session, extension: str, start: int, newest: int, token: str | None) -> None:
    """A walk went on to page `token`, or is done (None): then all up to `newest` was compared. `start` is as for `cursor`."""
    row = cursor(session, extension, start)
    row.seen = row.seen if token else max(row.seen, newest)
    row.newest, row.token = newest if token else 0, token
    session.add(row)
