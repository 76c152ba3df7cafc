"""HTTP of `workflows`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from functions.workflows import service
from fuseml.domain import errors, workflow
from fuseml.runtime import http
from fuseml.store import tables

if TYPE_CHECKING:
    from functions.workflows.app import Deps


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
    """What a workflow is assigned to: codesets by name, and patterns such as `model://*`."""

    workflow: str
    codesets: list[Codeset]
    patterns: list[str]
    status: AssignmentStatus


class WorkflowQuery(http.PageQuery):
    name: str | None = None


class AssignmentQuery(http.Query):
    name: str | None = None


class Target(http.Query):
    """Either a codeset, or a pattern of artifacts."""

    project: Annotated[str | None, pydantic.Field(alias="codesetProject")] = None
    codeset: Annotated[str | None, pydantic.Field(alias="codesetName")] = None
    pattern: Annotated[str | None, pydantic.Field(description="such as code://project/*, model://*")] = None

    def address(self) -> str:
        """The pattern that both ways of naming a target come to. Raises InvalidError."""
        if self.pattern and not (self.project or self.codeset):
            return self.pattern
        if self.project and self.codeset and not self.pattern:
            return f"code://{self.project}/{self.codeset}"
        missing = [errors.Problem(name, "is required, unless a pattern is given") for name in ("codesetProject", "codesetName")]
        raise errors.InvalidError("name a codeset by codesetProject and codesetName, or give a pattern", missing)


class NewAssignment(Target):
    name: Annotated[str, pydantic.Field(description="the workflow")]


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/workflows", query=WorkflowQuery, returns=[workflow.Workflow])
    def list_workflows(query: WorkflowQuery) -> http.Listed[dict[str, Any]]:
        """List workflows, by name."""
        found = service.page(deps, query.limit, query.cursor, query.name)
        return http.Listed([_wire(row) for row in found.rows], found.next_cursor)

    @api.route("POST", "/workflows", document=workflow.Workflow, returns=workflow.Workflow, status=201)
    def create_workflow() -> dict[str, Any]:
        """Create a workflow from its document."""
        return _wire(service.create(deps, workflow.check(http.read_document())))

    @api.route("GET", "/workflows/<name>", returns=workflow.Workflow)
    def get_workflow(name: str) -> dict[str, Any]:
        """Show a workflow."""
        return _wire(service.get(deps, name))

    @api.route("PUT", "/workflows/<name>", document=workflow.Workflow, returns=workflow.Workflow)
    def update_workflow(name: str) -> dict[str, Any]:
        """Change a workflow: makes a new revision, assignments stay."""
        return _wire(service.update(deps, name, workflow.check(http.read_document())))

    @api.route("DELETE", "/workflows/<name>", status=204)
    def delete_workflow(name: str) -> None:
        """Delete a workflow and its assignments; its runs stay."""
        service.delete(deps, name)

    @api.route("GET", "/workflows/assignments", query=AssignmentQuery, returns=[Assignment])
    def list_assignments(query: AssignmentQuery) -> list[Assignment]:
        """List what workflows are assigned to."""
        return [
            Assignment(
                workflow=name,
                codesets=[Codeset.model_validate(row) for row in codesets],
                patterns=patterns,
                status=AssignmentStatus(available=True, URL=f"{deps.public_url}/workflows/{name}"),
            )
            for name, codesets, patterns in service.assignments(deps, query.name)
        ]

    @api.route("POST", "/workflows/assignments", query=NewAssignment, status=201)
    def assign_workflow(query: NewAssignment) -> None:
        """Assign a workflow to a codeset or a pattern; the first run starts at once when there is a commit."""
        service.assign(deps, query.name, query.address())

    @api.route("DELETE", "/workflows/assignments/<name>", query=Target, status=204)
    def unassign_workflow(name: str, query: Target) -> None:
        """Take an assignment back; its runs go on."""
        service.unassign(deps, name, query.address())


def _wire(row: tables.WorkflowRevision) -> dict[str, Any]:
    return {"created": row.created, **row.document, "revision": row.revision}
