"""Applications: served things that runs produced."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, select

from fuseml.domain import errors
from fuseml.store import paging, tables


def get(session: Session, name: str) -> tables.Application:
    """Raises NotFoundError."""
    row = session.get(tables.Application, name)
    if row is None:
        raise errors.NotFoundError(f"there is no application named {name!r}; `fuseml application list` shows those that exist")
    return row


def put(session: Session, name: str, document: dict[str, Any], now: str) -> tables.Application:
    """Register the application, or replace what was registered under its name. The same document again changes nothing."""
    row = session.get(tables.Application, name)
    if row is None:
        row = tables.Application(name=name, type="", workflow="", document={}, revision=0, created=now, updated=now)
    if row.document != document:
        row.type, row.workflow, row.document = document["type"], document["workflow"], document
        row.revision, row.updated = row.revision + 1, now
        session.add(row)
        session.flush()
    return row


def page(session: Session, page: paging.Page, *, type: str | None = None, workflow: str | None = None) -> paging.Slice[tables.Application]:
    """Applications by name."""
    query = select(tables.Application)
    if type:
        query = query.where(tables.Application.type == type)
    if workflow:
        query = query.where(tables.Application.workflow == workflow)
    return paging.fetch(session, query, page, tables.Application.name)


def delete(session: Session, name: str) -> None:
    """Raises NotFoundError."""
    session.delete(get(session, name))
