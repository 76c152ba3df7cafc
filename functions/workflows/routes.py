"""HTTP routes of `workflows`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import flask
import pydantic

from functions.workflows import service
from functions.workflows.deps import Deps
from fuseml.domain import errors, events, plans, workflows
from fuseml.domain.documents import document
from fuseml.domain.registry import extension
from fuseml.domain.workflows import loading, portability
from fuseml.runtime import clients, http, operations
from fuseml.store.workflows import WorkflowRevision


class Codeset(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)

    name: str
    project: str
    description: str
    labels: list[str]
    url: str


class AssignmentStatus(pydantic.BaseModel):
    available: bool
    URL: str


class Assignment(pydantic.BaseModel):
    """The assignments of a workflow: codesets, and patterns such as `model://*`."""

    workflow: str
    codesets: list[Codeset]
    patterns: list[str]
    status: AssignmentStatus


class WorkflowQuery(operations.PageQuery):
    name: str | None = None


class RevisionQuery(operations.Query):
    revision: Annotated[operations.Revision | None, pydantic.Field(description="the current one by default")] = None


class DiffQuery(operations.Query):
    from_: Annotated[operations.Revision | None, pydantic.Field(alias="from", description="the revision before `to` by default")] = None
    to: Annotated[operations.Revision | None, pydantic.Field(description="the current revision by default")] = None


class WriteQuery(operations.Query):
    dry_run: Annotated[bool, pydantic.Field(description="only validate the document; responds with 200 and the findings")] = False
    project: Annotated[str, pydantic.Field(description="the project for the selectors in a dry run")] = ""


class DeleteQuery(operations.Query):
    force: Annotated[bool | None, pydantic.Field(description="even if runs are active; they are cancelled")] = None


class Revision(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)

    revision: int
    created: str


class WorkflowView(workflows.Workflow):
    """A revision of a workflow: its document, the revision's number and time."""

    # In a document that a client writes, both fields are accepted and dropped.
    created: str  # type: ignore[assignment]
    revision: int  # type: ignore[assignment]


class Finding(pydantic.BaseModel):
    """An error or a warning; only errors prevent storing a workflow."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    level: Literal["error", "warning", "note"]
    path: str
    message: str
    line: int | None
    column: int | None
    suggestion: str | None


class DryRun(pydantic.BaseModel):
    """The document that would be stored, null if it has errors, and the findings."""

    workflow: dict[str, Any] | None
    findings: list[Finding]


class UpdateResult(pydantic.RootModel[WorkflowView | DryRun]):
    """The workflow or, in a dry run, the findings."""


class PlanRequest(document.Model):
    """The input of a plan. The default commit is the newest one of the codeset's main branch."""

    project: str = ""
    codeset: str | None = None
    commit: str | None = None
    inputs: dict[str, document.Text] = {}


class OtherInstance(document.Model):
    """The records of another instance; the values of their credentials are not needed. Its steps run in `zone`."""

    extensions: list[extension.Extension]
    project: Annotated[document.Text, pydantic.Field(description="the project for the selectors, on both instances")] = ""
    zone: Annotated[document.Text, pydantic.Field(description="the zone of the other control plane")] = ""


class AssignmentQuery(operations.Query):
    name: str | None = None


class Target(operations.Query):
    """Either a codeset, or a pattern of artifacts."""

    project: Annotated[str | None, pydantic.Field(alias="codesetProject")] = None
    codeset: Annotated[str | None, pydantic.Field(alias="codesetName")] = None
    pattern: Annotated[str | None, pydantic.Field(description="such as code://project/*, model://*")] = None

    def address(self) -> str:
        """The target as a pattern. Raises InvalidError."""
        if self.pattern and not (self.project or self.codeset):
            return self.pattern
        if self.project and self.codeset and not self.pattern:
            return f"code://{self.project}/{self.codeset}"
        missing = [errors.Problem(name, "is required, unless a pattern is given") for name in ("codesetProject", "codesetName")]
        raise errors.InvalidError("name a codeset by codesetProject and codesetName, or give a pattern", missing)


class NewAssignment(Target):
    name: Annotated[str, pydantic.Field(description="the workflow")]


class Unassignment(Target):
    cancel: Annotated[bool, pydantic.Field(description="cancel the unfinished runs that the assignment has started")] = False


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/workflows", query=WorkflowQuery, returns=[WorkflowView])
    def list_workflows(query: WorkflowQuery) -> http.ListPage[dict[str, Any]]:
        """List workflows, by name."""
        page = service.page(deps, query.limit, query.cursor, query.name)
        return http.ListPage([_wire(row) for row in page.rows], page.next_cursor)

    @api.route(
        "POST",
        "/workflows",
        query=WriteQuery,
        document=workflows.Workflow,
        returns=WorkflowView,
        dry_run=DryRun,
        status=201,
        refusals=(404, 409),
    )
    def create_workflow(query: WriteQuery) -> dict[str, Any] | flask.Response:
        """Create a workflow from its document."""
        if query.dry_run:
            return _dry_run(query.project)
        return _wire(service.create(deps, _document()))

    @api.route("GET", "/workflows/schema", returns=dict)
    def get_schema() -> dict[str, object]:
        """Show the JSON Schema of workflow documents, for editors."""
        return loading.json_schema()

    @api.route("GET", "/workflows/<name>", query=RevisionQuery, returns=WorkflowView)
    def get_workflow(name: str, query: RevisionQuery) -> dict[str, Any]:
        """Show a workflow, at its current or an earlier revision."""
        return _wire(service.get(deps, name, query.revision))

    @api.route("PUT", "/workflows/<name>", query=WriteQuery, document=workflows.Workflow, returns=UpdateResult)
    def update_workflow(name: str, query: WriteQuery) -> dict[str, Any] | flask.Response:
        """Change a workflow: creates a new revision, assignments stay."""
        if query.dry_run:
            return _dry_run(query.project, name)
        return _wire(service.update(deps, name, _document()))

    @api.route("DELETE", "/workflows/<name>", query=DeleteQuery, status=204, refusals=(409,))
    def delete_workflow(name: str, query: DeleteQuery) -> None:
        """Delete a workflow and its assignments; its finished runs stay, unfinished ones are cancelled with `force` and prevent it without.

        Without the header `Fuseml-Client`, as clients of the original's API send it, unfinished runs are cancelled unless `force` is false, and a
        missing workflow is no error.
        """
        with clients.deletion():
            service.delete(deps, name, force=clients.is_original() if query.force is None else query.force)

    @api.route("GET", "/workflows/<name>/revisions", query=operations.PageQuery, returns=[Revision])
    def list_revisions(name: str, query: operations.PageQuery) -> http.ListPage[Revision]:
        """List the revisions of a workflow, newest first."""
        page = service.revisions(deps, name, query.limit, query.cursor)
        return http.ListPage([Revision.model_validate(row) for row in page.rows], page.next_cursor)

    @api.route("GET", "/workflows/<name>/diff", query=DiffQuery, text="text/x-diff")
    def compare_revisions(name: str, query: DiffQuery) -> flask.Response:
        """Compare two revisions, as a unified diff of their YAML."""
        return flask.Response(service.diff(deps, name, query.from_, query.to), content_type="text/x-diff; charset=utf-8")

    @api.route("POST", "/workflows/<name>/plan", body=PlanRequest, returns=plans.Plan, refusals=(409, 422))
    def plan_workflow(name: str, body: PlanRequest) -> plans.Plan:
        """Show the present plan of a run. Nothing is stored."""
        return service.plan(deps, events.RunRequested(request="", action="start", workflow=name, **body.model_dump()))

    @api.route("POST", "/workflows/<name>/portability", body=OtherInstance, returns=portability.Portability, refusals=(409,))
    def compare_instances(name: str, body: OtherInstance) -> portability.Portability:
        """Compare the bindings of a workflow here with those that it would get from the records of another instance."""
        return service.compare_instances(deps, name, body.extensions, body.project, body.zone)

    def _dry_run(project: str, name: str | None = None) -> flask.Response:
        workflow, findings = service.dry_run(deps, _document, project, name)
        document = service.to_document(workflow) if workflow else None
        return http.respond(DryRun(workflow=document, findings=[Finding.model_validate(finding) for finding in findings]), 200)

    @api.route("GET", "/workflows/assignments", query=AssignmentQuery, returns=[Assignment])
    def list_assignments(query: AssignmentQuery) -> list[Assignment]:
        """List assignments, by workflow."""
        return [
            Assignment(
                workflow=name,
                codesets=[Codeset.model_validate(row) for row in codesets],
                patterns=patterns,
                status=AssignmentStatus(available=True, URL=f"{deps.public_url}/workflows/{name}"),
            )
            for name, codesets, patterns in service.assignments(deps, query.name)
        ]

    @api.route("POST", "/workflows/assignments", query=NewAssignment, status=201, refusals=(404,))
    def assign_workflow(query: NewAssignment) -> None:
        """Assign a workflow to a codeset or a pattern; the first run starts at once if a push of the newest commit triggers one."""
        service.assign(deps, query.name, query.address())

    @api.route("DELETE", "/workflows/assignments/<name>", query=Unassignment, status=204)
    def unassign_workflow(name: str, query: Unassignment) -> None:
        """Remove an assignment; its unfinished runs continue, or are cancelled with `cancel`."""
        service.unassign(deps, name, query.address(), cancel=query.cancel)


def _document() -> document.Parsed:
    """The document of the request. Clients of the original's API send an empty default where `_wire` shows one: it is none."""
    parsed = http.read_document()
    inputs = parsed.data.get("inputs") if clients.is_original() and isinstance(parsed.data, dict) else None
    for item in inputs if isinstance(inputs, list) else ():
        if isinstance(item, dict) and item.get("default") == "":
            del item["default"]
    return parsed


def _wire(row: WorkflowRevision) -> dict[str, Any]:
    shown = {"created": row.created, **row.document, "revision": row.revision}
    if clients.is_original():
        # They print these texts without a look whether the workflow has them.
        shown = {"description": "", **shown}
        for name in ("inputs", "outputs"):
            shown[name] = [
                {"description": "", "type": "string", **({"default": ""} if name == "inputs" else {}), **item}
                for item in shown.get(name, [])
            ]
    return shown
