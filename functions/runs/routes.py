"""HTTP of `runs`."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import flask
import pydantic

from functions.runs import differences, results, service, views
from functions.runs.deps import Deps
from fuseml.domain import events, plans, runs
from fuseml.domain.documents import document
from fuseml.domain.runs import approval
from fuseml.runtime import http, operations


class RunQuery(operations.PageQuery):
    workflow: str | None = None
    project: str | None = None
    codeset: str | None = None
    state: runs.State | None = None
    commit: str | None = None
    caused_by: Annotated[str | None, pydantic.Field(description="the run whose artifacts started them")] = None
    request: Annotated[str | None, pydantic.Field(description="the id that POST /runs, rerun and resume return")] = None


class OriginalRunQuery(operations.Query):
    name: str | None = None
    codeset_name: Annotated[str | None, pydantic.Field(alias="codesetName")] = None
    codeset_project: Annotated[str | None, pydantic.Field(alias="codesetProject")] = None
    status: str | None = None


class LogQuery(operations.Query):
    offset: Annotated[int, pydantic.Field(ge=0, le=operations.MAX_OFFSET, description="byte to begin at")] = 0


class Cancel(operations.Query):
    reason: Annotated[str, pydantic.Field(max_length=500)] = ""


Until = Annotated[str | None, pydantic.Field(description="The last step: only the steps that it needs run with it.")]
Only = Annotated[str | None, pydantic.Field(description="The one step to run, on the recorded outputs of others.")]
NoCache = Annotated[bool, pydantic.Field(description="Execute every step, also those that the cache holds.")]
Commit = Annotated[str | None, pydantic.Field(description="All its hex digits.")]


class NewRun(document.Model):
    """A run of a workflow. Without a commit, the newest one of the codeset's main branch is used."""

    workflow: str
    project: str = ""
    codeset: str | None = None
    commit: Commit = None
    inputs: dict[str, document.Text] = {}
    until: Until = None
    only: Only = None
    no_cache: NoCache = False


class Rerun(document.Model):
    """The way to repeat a run: `locked` repeats its plan exactly; else the current workflow runs on the same code and inputs, resolved anew.

    `inputs` replace those of the run by name, or add to them.
    """

    locked: bool = False
    inputs: dict[str, document.Text] = {}
    until: Until = None
    only: Only = None
    no_cache: NoCache = False


class Resume(document.Model):
    """Replacements in the steps that are executed again: their codeset's commit, their images (step -> image)."""

    commit: Commit = None
    images: dict[str, str] = {}


class DecisionBody(document.Model):
    """The step, required only if several wait, and the reason."""

    step: Annotated[str | None, pydantic.Field(description="Required only if several steps wait.")] = None
    comment: Annotated[str, pydantic.Field(max_length=2000)] = ""


class Receipt(pydantic.BaseModel):
    """The id of the request; `GET /runs?request=ID` shows its run."""

    request: str


_Body = TypeVar("_Body", bound=document.Model)


def _optional(model: type[_Body]) -> _Body:
    """The body of the request; every field may be left out, and so may the body."""
    parsed = http.read_document() if flask.request.get_data().strip() else document.Parsed({})
    return document.validate(model, parsed.data, position=parsed.position, kind="body")


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/runs", query=RunQuery, returns=[views.Run])
    def list_runs(query: RunQuery) -> http.ListPage[views.Run]:
        """List runs, newest first."""
        return service.page(deps, query.limit, query.cursor, query.model_dump(exclude={"limit", "cursor"}))

    @api.route("GET", "/runs/<name>", returns=views.Run)
    def get_run(name: str) -> views.Run:
        """Show a run with its steps and bindings."""
        return service.get(deps, name)

    @api.route("GET", "/runs/<name>/plan", returns=plans.Plan)
    def get_plan(name: str) -> dict[str, Any]:
        """Show the plan that the run is locked to."""
        return service.plan(deps, name)

    @api.route("GET", "/runs/<name>/diff/<other>", query=differences.DiffQuery, returns=differences.RunDiff)
    def compare_runs(name: str, other: str, query: differences.DiffQuery) -> differences.RunDiff:
        """Show the differences of two runs: code, data, parameters, tools, images, metrics, outputs and artifacts. Secrets appear by name."""
        return differences.between(deps, name, other, everything=query.all)

    @api.route("GET", "/runs/<name>/logs/<step>", query=LogQuery, text="text/plain")
    def read_log(name: str, step: str, query: LogQuery) -> flask.Response:
        """Read a step's log from a byte offset on, also while it runs; `Fuseml-Log-Offset` is the next offset."""
        chunk = service.log(deps, name, step, query.offset)
        headers = {"Fuseml-Log-Offset": str(chunk.next_offset), "Fuseml-Log-Complete": "true" if chunk.complete else "false"}
        return flask.Response(chunk.data, 200, headers, content_type="text/plain; charset=utf-8")

    @api.route("POST", "/runs", body=NewRun, returns=Receipt, status=202, refusals=(404, 409, 422))
    def start_run(body: NewRun) -> Receipt:
        """Request a run of a workflow, with inputs of its own."""
        return _request(events.RunRequested(request="", action="start", **body.model_dump()))

    @api.route("POST", "/runs/<name>/rerun", document=Rerun, returns=Receipt, status=202, refusals=(409, 422))
    def rerun(name: str) -> Receipt:
        """Request the repetition of a run, or of a part of it."""
        return _request(events.RunRequested(request="", action="rerun", run=name, **_optional(Rerun).model_dump()))

    @api.route("POST", "/runs/<name>/resume", document=Resume, returns=Receipt, status=202, refusals=(409, 422))
    def resume(name: str) -> Receipt:
        """Request the continuation of a failed or cancelled run: succeeded steps are reused, the others run."""
        return _request(events.RunRequested(request="", action="resume", run=name, **_optional(Resume).model_dump()))

    def _request(requested: events.RunRequested) -> Receipt:
        return Receipt(request=service.request(deps, requested))

    @api.route("POST", "/runs/<name>/cancel", query=Cancel, returns=views.Run, status=202, refusals=(409,))
    def cancel_run(name: str, query: Cancel) -> views.Run:
        """Request the cancellation of a run."""
        return service.cancel(deps, name, query.reason)

    @api.route("POST", "/runs/<name>/approve", document=DecisionBody, returns=views.Run, status=202, refusals=(409,))
    def approve(name: str) -> views.Run:
        """Approve a step that waits for an approval."""
        return _decide(name, "approved")

    @api.route("POST", "/runs/<name>/reject", document=DecisionBody, returns=views.Run, status=202, refusals=(409,))
    def reject(name: str) -> views.Run:
        """Reject a step that waits for an approval: it fails, and the run with it."""
        return _decide(name, "rejected")

    def _decide(name: str, decision: approval.Decision) -> views.Run:
        body = _optional(DecisionBody)
        return service.decide(deps, name, body.step, decision, by=http.caller().name, comment=body.comment)

    @api.route("GET", "/pipelines/results", query=results.ResultQuery, returns=[results.RunResult], refusals=(404, 409))
    def list_results(query: results.ResultQuery) -> http.ListPage[results.RunResult]:
        """List the runs that took a code version, and with `recursive` those that took what these made, oldest first; each with what it took
        and made.
        """
        return results.page(deps, query)

    @api.route("GET", "/workflows/runs", query=OriginalRunQuery, returns=[views.OriginalRun])
    def list_workflow_runs(query: OriginalRunQuery) -> list[views.OriginalRun]:
        """List runs in the shape of the original API, newest first, at most 500."""
        filters = {"workflow": query.name, "codeset": query.codeset_name, "project": query.codeset_project}
        return service.original(deps, filters, query.status)
