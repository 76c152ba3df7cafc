"""Use cases of `applications`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuseml.domain import application
from fuseml.runtime import clock
from fuseml.store import applications, paging, tables

if TYPE_CHECKING:
    from functions.applications.app import Deps

Row = tables.Application


def page(deps: Deps, limit: int, cursor: str | None, *, type: str | None, workflow: str | None) -> paging.Slice[Row]:
    """A page of applications."""
    with deps.store.read() as session:
        return applications.page(session, paging.Page(limit, cursor), type=type, workflow=workflow)


def put(deps: Deps, registered: application.Application) -> Row:
    """Register or replace."""
    with deps.store.write() as session:
        return applications.put(session, registered.name, registered.model_dump(mode="json"), clock.now())


def get(deps: Deps, name: str) -> Row:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        return applications.get(session, name)


def delete(deps: Deps, name: str) -> None:
    """Raises NotFoundError."""
    with deps.store.write() as session:
        applications.delete(session, name)
