"""Applications and their former revisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlmodel
from sqlmodel import Session, col, or_, select

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables.application_rows import Application, ApplicationRevision

_KEPT = 10
"""Revisions of an application that a roll back can reach."""


def find(session: Session, name: str) -> Application | None:
    """The application; None for an unknown name."""
    return session.get(Application, name)


def get(session: Session, name: str) -> Application:
    """Raises NotFoundError."""
    row = find(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no application named {name!r}; `fuseml application list` shows those that exist")
    return row


def put(session: Session, name: str, document: dict[str, Any], now: str) -> Application:
    """Register an application, or replace its document. The same document again changes nothing.

    A new revision gets all the traffic.
    """
    row = find(session, name)
    if row is None:
        row = Application(name=name, type="", workflow="", document={}, revision=0, created=now, updated=now)
    if row.document != document:
        row.type, row.workflow, row.document = document["type"], document["workflow"], document
        row.revision, row.updated = row.revision + 1, now
        row.traffic = {str(row.revision): 100}
        session.add(row)
        session.add(ApplicationRevision(application=name, revision=row.revision, document=document, created=now))
        session.flush()
        for former in revisions(session, name)[:-_KEPT]:
            session.delete(former)
    return row


def revisions(session: Session, name: str) -> Sequence[ApplicationRevision]:
    """The kept revisions of an application, in ascending order; the last one is the current one."""
    table = ApplicationRevision
    return session.exec(select(table).where(table.application == name).order_by(col(table.revision))).all()


def served(session: Session, name: str) -> ApplicationRevision:
    """The revision that gets most of the traffic. Raises NotFoundError."""
    row = get(session, name)
    revision = max(row.traffic, key=lambda number: (row.traffic[number], int(number)))
    return session.exec(
        select(ApplicationRevision).where(ApplicationRevision.application == name, ApplicationRevision.revision == int(revision))
    ).one()


def route(session: Session, row: Application, traffic: Mapping[int, int], now: str) -> None:
    """Send requests to these revisions: number -> percent."""
    row.traffic, row.updated = {str(number): percent for number, percent in sorted(traffic.items())}, now
    session.add(row)


def record_location(session: Session, name: str, fields: Mapping[str, object]) -> Application | None:
    """Store fields of the document that the serving determines, such as `url`, without a new revision. None for a deleted application."""
    row = find(session, name)
    if row is not None:
        row.document = {**row.document, **fields}
        session.add(row)
    return row


def runtimes(session: Session) -> dict[str, str]:
    """Image of the environment -> name of an application, for all kept revisions."""
    return {row.document["runtime"]: row.application for row in session.exec(select(ApplicationRevision)) if row.document.get("runtime")}


def all_applications(session: Session) -> Sequence[Application]:
    """All applications, by name."""
    return session.exec(select(Application).order_by(col(Application.name))).all()


def serving(session: Session, project: str, models: Collection[str]) -> list[str]:
    """Names of the applications that serve one of these model addresses now. One without a project counts for each project."""
    application, revision = Application, ApplicationRevision
    of_models = [col(column)["model"].as_string().in_(models) for column in (application.document, revision.document)]
    query = select(application, revision).outerjoin(revision, col(revision.application) == application.name).where(or_(*of_models))
    found = {
        row.name
        for row, former in session.exec(query)
        if row.document.get("project") in (None, project)
        and (row.document.get("model") in models or (former is not None and str(former.revision) in row.traffic))
    }
    return sorted(found)


def served_models(session: Session) -> dict[str, list[tuple[str, str | None]]]:
    """Address of a model -> name and project of each application that serves it now; the project is None where it is unknown."""
    application, revision = Application, ApplicationRevision
    found: dict[str, set[tuple[str, str | None]]] = {}
    query = select(application, revision).outerjoin(revision, col(revision.application) == application.name)
    for row, former in session.exec(query):
        documents = [row.document, *([former.document] if former is not None and str(former.revision) in row.traffic else [])]
        for model in (document.get("model") for document in documents):
            if model:
                found.setdefault(model, set()).add((row.name, row.document.get("project")))
    return {model: sorted(names, key=str) for model, names in found.items()}


def page(session: Session, page: paging.Page, *, type: str | None = None, workflow: str | None = None) -> paging.Slice[Application]:
    """Applications by name."""
    query = select(Application)
    if type:
        query = query.where(Application.type == type)
    if workflow:
        query = query.where(Application.workflow == workflow)
    return paging.fetch(session, query, page, Application.name)


def delete(session: Session, name: str) -> None:
    """Raises NotFoundError."""
    session.delete(get(session, name))
    session.exec(sqlmodel.delete(ApplicationRevision).where(col(ApplicationRevision.application) == name))


def move_tracking(session: Session, moved: Callable[[str], str]) -> None:
    """Replace the address of the tracking server of every registration by `moved(address)`, without new revisions."""
    rows: list[Application | ApplicationRevision] = [*all_applications(session), *session.exec(select(ApplicationRevision)).all()]
    for row in rows:
        address = row.document.get("tracking_uri") or ""
        if moved(address) != address:
            row.document = {**row.document, "tracking_uri": moved(address)}
            session.add(row)


def reseal(session: Session, change: Callable[[str, str], str]) -> None:
    """Replace each sealed value of the applications' environments by `change(application, sealed)`."""
    rows: Sequence[Application | ApplicationRevision] = [
        *all_applications(session),
        *session.exec(select(ApplicationRevision)).all(),
    ]
    for row in rows:
        owner = row.name if isinstance(row, Application) else row.application
        sealed = row.document.get("environment") or {}
        resealed = {name: change(owner, value) for name, value in sealed.items()}
        if resealed != sealed:
            row.document = {**row.document, "environment": resealed}
            session.add(row)
