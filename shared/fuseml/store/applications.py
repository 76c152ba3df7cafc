"""Applications: served things that runs produced, and what they were before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlmodel
from sqlmodel import Session, col, select

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables import application_rows

_KEPT = 10
"""Revisions that one can go back to."""


def find(session: Session, name: str) -> application_rows.Application | None:
    """The application, if there is one."""
    return session.get(application_rows.Application, name)


def get(session: Session, name: str) -> application_rows.Application:
    """Raises NotFoundError."""
    row = find(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no application named {name!r}; `fuseml application list` shows those that exist")
    return row


def put(session: Session, name: str, document: dict[str, Any], now: str) -> application_rows.Application:
    """Register the application, or replace what was registered under its name. The same document again changes nothing.

    A new revision gets all the traffic.
    """
    row = find(session, name)
    if row is None:
        row = application_rows.Application(name=name, type="", workflow="", document={}, revision=0, created=now, updated=now)
    if row.document != document:
        row.type, row.workflow, row.document = document["type"], document["workflow"], document
        row.revision, row.updated = row.revision + 1, now
        row.traffic = {str(row.revision): 100}
        session.add(row)
        session.add(application_rows.ApplicationRevision(application=name, revision=row.revision, document=document, created=now))
        session.flush()
        for former in revisions(session, name)[:-_KEPT]:
            session.delete(former)
    return row


def revisions(session: Session, name: str) -> Sequence[application_rows.ApplicationRevision]:
    """What is kept of an application, in ascending order; the last one is what it is now."""
    table = application_rows.ApplicationRevision
    return session.exec(select(table).where(table.application == name).order_by(col(table.revision))).all()


def served(session: Session, name: str) -> application_rows.ApplicationRevision:
    """The revision that gets most of the traffic. Raises NotFoundError."""
    row = get(session, name)
    revision = max(row.traffic, key=lambda number: (row.traffic[number], int(number)))
    return session.exec(
        select(application_rows.ApplicationRevision).where(
            application_rows.ApplicationRevision.application == name, application_rows.ApplicationRevision.revision == int(revision)
        )
    ).one()


def route(session: Session, row: application_rows.Application, traffic: Mapping[int, int], now: str) -> None:
    """Send requests to these revisions: number -> percent."""
    row.traffic, row.updated = {str(number): percent for number, percent in sorted(traffic.items())}, now
    session.add(row)


def located(session: Session, name: str, found: Mapping[str, object]) -> application_rows.Application | None:
    """Note where the application turned out to be served; that makes no revision. None when it is gone."""
    row = find(session, name)
    if row is not None:
        row.document = {**row.document, **found}
        session.add(row)
    return row


def everything(session: Session) -> Sequence[application_rows.Application]:
    """All applications, by name."""
    return session.exec(select(application_rows.Application).order_by(col(application_rows.Application.name))).all()


def page(
    session: Session, page: paging.Page, *, type: str | None = None, workflow: str | None = None
) -> paging.Slice[application_rows.Application]:
    """Applications by name."""
    query = select(application_rows.Application)
    if type:
        query = query.where(application_rows.Application.type == type)
    if workflow:
        query = query.where(application_rows.Application.workflow == workflow)
    return paging.fetch(session, query, page, application_rows.Application.name)


def delete(session: Session, name: str) -> None:
    """Raises NotFoundError."""
    session.delete(get(session, name))
    session.exec(sqlmodel.delete(application_rows.ApplicationRevision).where(col(application_rows.ApplicationRevision.application) == name))


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Replace each sealed value of the applications' environments by `change(application, sealed)`."""
    rows: Sequence[application_rows.Application | application_rows.ApplicationRevision] = [
        *everything(session),
        *session.exec(select(application_rows.ApplicationRevision)).all(),
    ]
    for row in rows:
        owner = row.name if isinstance(row, application_rows.Application) else row.application
        sealed = row.document.get("environment") or {}
        again = {name: change(owner, value) for name, value in sealed.items()}
        if again != sealed:
            row.document = {**row.document, "environment": again}
            session.add(row)
