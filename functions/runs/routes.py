"""HTTP of `runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import flask
import pydantic

from functions.runs import service, views
from fuseml.runtime import http

if TYPE_CHECKING:
    from functions.runs.app import Deps


class RunQuery(http.PageQuery):
    workflow: str | None = None
    project: str | None = None
    codeset: str | None = None
    state: str | None = None
    commit: str | None = None


class OriginalRunQuery(http.Query):
    name: str | None = None
    codeset_name: Annotated[str | None, pydantic.Field(alias="codesetName")] = None
    codeset_project: Annotated[str | None, pydantic.Field(alias="codesetProject")] = None
    status: str | None = None


class LogQuery(http.Query):
    offset: Annotated[int, pydantic.Field(ge=0, description="byte to begin at")] = 0


class Cancel(http.Query):
    reason: Annotated[str, pydantic.Field(max_length=500)] = ""


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/runs", query=RunQuery, returns=[views.Run])
    def list_runs(query: RunQuery) -> http.Listed[views.Run]:
        """List runs, newest first."""
        return service.page(deps, query.limit, query.cursor, query.model_dump(exclude={"limit", "cursor"}))

    @api.route("GET", "/runs/<name>", returns=views.Run)
    def get_run(name: str) -> views.Run:
        """Show a run with its steps and bindings."""
        return service.get(deps, name)

    @api.route("GET", "/runs/<name>/plan")
    def get_plan(name: str) -> dict[str, Any]:
        """Show the plan that the run is locked to."""
        return service.plan(deps, name)

    @api.route("GET", "/runs/<name>/logs/<step>", query=LogQuery)
    def read_log(name: str, step: str, query: LogQuery) -> flask.Response:
        """Read a step's log from a byte offset on, also while it runs; `Fuseml-Log-Offset` says where to go on."""
        chunk = service.log(deps, name, step, query.offset)
        headers = {"Fuseml-Log-Offset": str(chunk.next_offset), "Fuseml-Log-Complete": "true" if chunk.complete else "false"}
        return flask.Response(chunk.data, 200, headers, content_type="text/plain; charset=utf-8")

    @api.route("POST", "/runs/<name>/cancel", query=Cancel, returns=views.Run, status=202)
    def cancel_run(name: str, query: Cancel) -> views.Run:
        """Ask for a run to be stopped."""
        return service.cancel(deps, name, query.reason)

    @api.route("GET", "/workflows/runs", query=OriginalRunQuery, returns=[views.OriginalRun])
    def list_workflow_runs(query: OriginalRunQuery) -> list[views.OriginalRun]:
        """List runs in the shape of the original API, newest first, at most 500."""
        filters = {"workflow": query.name, "codeset": query.codeset_name, "project": query.codeset_project}
        return service.original(deps, filters, query.status)
