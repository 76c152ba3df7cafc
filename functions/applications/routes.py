"""HTTP of `applications`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.applications import service
from fuseml.domain import application
from fuseml.runtime import http

if TYPE_CHECKING:
    from functions.applications.app import Deps


class ApplicationQuery(http.PageQuery):
    type: str | None = None
    workflow: str | None = None


class Application(application.Application):
    """A registered application; `revision` counts how often it was replaced."""

    revision: int
    created: str
    updated: str


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/applications", query=ApplicationQuery, returns=[Application], workload=True)
    def list_applications(query: ApplicationQuery) -> http.Listed[Application]:
        """List applications, by name."""
        found = service.page(deps, query.limit, query.cursor, type=query.type, workflow=query.workflow)
        return http.Listed([_wire(row) for row in found.rows], found.next_cursor)

    @api.route("POST", "/applications", body=application.Application, returns=Application, status=201, workload=True)
    def register_application(body: application.Application) -> Application:
        """Register an application, or replace the one of the same name."""
        return _wire(service.put(deps, body))

    @api.route("GET", "/applications/<name>", returns=Application, workload=True)
    def get_application(name: str) -> Application:
        """Show an application."""
        return _wire(service.get(deps, name))

    @api.route("DELETE", "/applications/<name>", status=204)
    def delete_application(name: str) -> None:
        """Delete an application; what serves it stops."""
        service.delete(deps, name)


def _wire(row: service.Row) -> Application:
    return Application.model_validate({**row.document, "revision": row.revision, "created": row.created, "updated": row.updated})
