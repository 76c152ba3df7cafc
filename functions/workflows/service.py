"""Use cases of `workflows`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fuseml.domain import artifact, errors, events, workflow
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, paging, tables, workflows

if TYPE_CHECKING:
    from functions.workflows.app import Deps


def page(deps: Deps, limit: int, cursor: str | None, name: str | None) -> paging.Slice[tables.WorkflowRevision]:
    """A page of current revisions."""
    with deps.store.read() as session:
        return workflows.current(session, paging.Page(limit, cursor), name=name)


def get(deps: Deps, name: str) -> tables.WorkflowRevision:
    """The current revision. Raises NotFoundError."""
    with deps.store.read() as session:
        return workflows.revision(session, name)


def create(deps: Deps, document: workflow.Workflow) -> tables.WorkflowRevision:
    """Raises ConflictError when the name is taken."""
    with deps.store.write() as session:
        row = workflows.add(session, document.name, _stored(document), clock.now())
        cloudevents.announce(session, events.WorkflowUpdated(workflow=document.name, revision=row.revision))
    cloudevents.relay(deps.store, deps.publisher)
    return row


def update(deps: Deps, name: str, document: workflow.Workflow) -> tables.WorkflowRevision:
    """Raises NotFoundError, InvalidError when the document has another name."""
    if document.name != name:
        problem = errors.Problem(
            "name", f"the document is named {document.name!r}, the address says {name!r}; a workflow cannot be renamed"
        )
        raise errors.InvalidError(str(problem), [problem])
    with deps.store.write() as session:
        before = workflows.workflow(session, name).revision
        row = workflows.revise(session, name, _stored(document), clock.now())
        if row.revision != before:
            cloudevents.announce(session, events.WorkflowUpdated(workflow=name, revision=row.revision))
    cloudevents.relay(deps.store, deps.publisher)
    return row


def _stored(document: workflow.Workflow) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def delete(deps: Deps, name: str) -> None:
    """Raises NotFoundError, ConflictError while runs are active."""
    with deps.store.write() as session:
        workflows.delete(session, name, clock.now())


def assign(deps: Deps, name: str, pattern: str) -> None:
    """Bind a workflow; binding it again changes nothing. Raises NotFoundError for the workflow and for a codeset, InvalidError for the pattern."""
    artifact.check_pattern(pattern)
    with deps.store.write() as session:
        kind, _, rest = pattern.partition("://")
        if kind == "code" and "*" not in rest:
            codesets.codeset(session, *rest.split("/", 1))
        row = workflows.assign(session, uuid.uuid4().hex, name, pattern, clock.now())
        if row is not None:
            cloudevents.announce(session, events.WorkflowAssigned(workflow=name, pattern=pattern, assignment=row.id))
    cloudevents.relay(deps.store, deps.publisher)


def unassign(deps: Deps, name: str, pattern: str) -> None:
    """Raises NotFoundError for the workflow and for the assignment."""
    with deps.store.write() as session:
        workflows.unassign(session, name, pattern)


def assignments(deps: Deps, name: str | None) -> list[tuple[str, Sequence[tables.Codeset], list[str]]]:
    """(workflow, its codesets, its other patterns) by workflow."""
    with deps.store.read() as session:
        known = {f"code://{row.project}/{row.name}": row for row in codesets.all_codesets(session)}
        rows = sorted(workflows.assignments(session, workflow=name), key=lambda row: row.workflow)
    grouped = itertools.groupby(rows, key=lambda row: row.workflow)
    listed = [(workflow_name, [row.pattern for row in group]) for workflow_name, group in grouped]
    return [
        (
            workflow_name,
            [known[pattern] for pattern in patterns if pattern in known],
            [pattern for pattern in patterns if pattern not in known],
        )
        for workflow_name, patterns in listed
    ]
