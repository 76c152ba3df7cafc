"""Registered versions of runnables."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables.runnable_rows import Runnable


def find(session: Session, address: str) -> Runnable | None:
    """The version at the address; None for an unknown one."""
    return session.get(Runnable, address)


def add(session: Session, row: Runnable) -> None:
    """Store a new version."""
    session.add(row)
    session.flush()


def delete(session: Session, row: Runnable) -> None:
    """Remove a version."""
    session.delete(row)


def versions(session: Session, project: str, name: str) -> Sequence[Runnable]:
    """The versions of a runnable of the project, newest first."""
    query = select(Runnable).where(Runnable.name == name, Runnable.project == project)
    return session.exec(query.order_by(col(Runnable.version_order), col(Runnable.address))).all()


def texts(session: Session, project: str, name: str) -> Sequence[str]:
    """The texts of the versions of a runnable of the project, newest first."""
    query = select(Runnable.version).where(Runnable.name == name, Runnable.project == project)
    return session.exec(query.order_by(col(Runnable.version_order), col(Runnable.version))).all()


def projects(session: Session, name: str) -> Sequence[str]:
    """The projects that have a runnable of the name."""
    return session.exec(select(Runnable.project).where(Runnable.name == name).distinct().order_by(col(Runnable.project))).all()


def of_step(session: Session, run: str, step: str, name: str) -> Runnable | None:
    """The version of that name that a step of a run has registered."""
    return session.exec(select(Runnable).where(Runnable.name == name, Runnable.run == run, Runnable.step == step)).first()


def page(
    session: Session, page: paging.Page, *, project: str | None = None, name: str | None = None, kind: str | None = None
) -> paging.Slice[Runnable]:
    """Versions by address."""
    query = select(Runnable)
    for column, value in ((Runnable.project, project), (Runnable.name, name), (Runnable.kind, kind)):
        if value:
            query = query.where(column == value)
    return paging.fetch(session, query, page, Runnable.address)


def get(session: Session, address: str) -> Runnable:
    """Raises NotFoundError."""
    row = find(session, address)
    if row is None:
        raise errors.NotFoundError(f"there is no runnable {address}; `fuseml runnable list` shows those that exist")
    return row
