"""Use cases of `workflows`."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from functions.workflows.deps import Deps
from fuseml import artifactstores
from fuseml.domain import errors, events, plans
from fuseml.domain.documents import document
from fuseml.domain.registry import extension
from fuseml.domain.workflows import Workflow, lint, loading, portability
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, extensions, paging, runs, workflows
from fuseml.usecases import assigning, planner, requests, runnables


def page(deps: Deps, limit: int, cursor: str | None, name: str | None) -> paging.Slice[workflows.WorkflowRevision]:
    """A page of current revisions."""
    with deps.store.read() as session:
        return workflows.current(session, paging.Page(limit, cursor), name=name)


def get(deps: Deps, name: str, number: int | None = None) -> workflows.WorkflowRevision:
    """One revision, the current one by default. Raises NotFoundError."""
    with deps.store.read() as session:
        return workflows.revision(session, name, number)


def revisions(deps: Deps, name: str, limit: int, cursor: str | None) -> paging.Slice[workflows.WorkflowRevision]:
    """A page of revisions, newest first. Raises NotFoundError."""
    with deps.store.read() as session:
        return workflows.revisions(session, name, paging.Page(limit, cursor))


def diff(deps: Deps, name: str, before: int | None, after: int | None) -> str:
    """The unified diff between the YAML of two revisions, by default of the current one and the one before it.

    Raises NotFoundError.
    """
    import yaml

    with deps.store.read() as session:
        newer = workflows.revision(session, name, after)
        older = workflows.revision(session, name, newer.revision - 1 if before is None else before)
    old, new = (yaml.safe_dump(row.document, sort_keys=False, allow_unicode=True).splitlines(keepends=True) for row in (older, newer))
    labels = (f"{name} revision {older.revision}", f"{name} revision {newer.revision}")
    return "".join(difflib.unified_diff(old, new, *labels, older.created, newer.created))


def create(deps: Deps, parsed: document.Parsed) -> workflows.WorkflowRevision:
    """Store a new workflow. Raises InvalidError for a wrong document, ConflictError when the name is taken."""
    workflow = loading.check(parsed)
    with deps.store.write() as session:
        runnables.check(session, workflow, "", parsed.position)
        row = workflows.add(session, workflow.name, to_document(workflow), clock.now())
        enqueued = cloudevents.enqueue(session, events.WorkflowUpdated(workflow=workflow.name, revision=row.revision))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return row


def _check_name(workflow: Workflow, name: str) -> None:
    if workflow.name != name:
        problem = errors.Problem("name", f"{workflow.name!r} is not the name of the workflow, {name!r}; workflows cannot be renamed")
        raise errors.InvalidError(str(problem), [problem])


def dry_run(deps: Deps, read: Callable[[], document.Parsed], project: str, name: str | None) -> tuple[Workflow | None, list[lint.Finding]]:
    """The workflow in a document, None if it is invalid, and the findings; nothing is stored.

    `name` is that of the workflow to change, None for a new one. Raises NotFoundError if the workflow does not exist.
    """
    with deps.store.read() as session:
        if name is not None:
            workflows.workflow(session, name)
        try:
            parsed = read()
            workflow = loading.check(parsed)
            if name is not None:
                _check_name(workflow, name)
        except errors.InvalidError as error:
            return None, lint.refusals(error)
        return workflow, planner.findings(session, workflow, project, _placement(deps), parsed.position)


def plan(deps: Deps, request: events.RunRequested) -> plans.Plan:
    """The present plan of a requested run. Raises as the request of the run does."""
    with deps.store.read() as session:
        spec = requests.run_spec(session, request)
        following = f"{request.workflow}-{workflows.workflow(session, spec.document.name).runs + 1}"
        return requests.plan_of(session, request, spec, "", following, _placement(deps), deps.git.digest)


def compare_instances(deps: Deps, name: str, records: Sequence[extension.Extension], project: str, zone: str) -> portability.Portability:
    """The bindings of a workflow here, compared with those by the records of another instance, whose steps run in `zone`. Nothing is stored.

    Raises NotFoundError for the workflow, and ConflictError for a record that is given twice.
    """
    repeated = sorted({record.id for record in records if sum(other.id == record.id for other in records) > 1})
    if repeated:
        raise errors.ConflictError(f"the record {repeated[0]!r} is given twice")
    with deps.store.read() as session:
        document = runnables.expanded(session, Workflow.model_validate(workflows.revision(session, name).document), project)
        wanted = [requirement for step in document.steps for requirement in step.extensions]
        here = extensions.candidates(session, wanted)
    return portability.compare(document, portability.Instance(here, deps.zone), portability.Instance(records, zone), project=project)


def _placement(deps: Deps) -> planner.Placement:
    return planner.Placement(deps.zone, deps.namespace, deps.tracking_url, artifactstores.facts)


def update(deps: Deps, name: str, parsed: document.Parsed) -> workflows.WorkflowRevision:
    """Raises NotFoundError, InvalidError for a wrong document, and when it has another name."""
    workflow = loading.check(parsed)
    _check_name(workflow, name)
    with deps.store.write() as session:
        runnables.check(session, workflow, "", parsed.position)
        before = workflows.workflow(session, name).revision
        row = workflows.revise(session, name, to_document(workflow), clock.now())
        changes = [events.WorkflowUpdated(workflow=name, revision=row.revision)] if row.revision != before else []
        enqueued = cloudevents.enqueue(session, *changes)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return row


def to_document(workflow: Workflow) -> dict[str, Any]:
    """The document as it is stored and shown: without defaults."""
    return workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def delete(deps: Deps, name: str, *, force: bool) -> None:
    """Delete a workflow. Raises NotFoundError and, unless forced, ConflictError while runs are active; a forced deletion cancels them."""
    with deps.store.write() as session:
        workflows.delete(session, name, clock.now(), force=force)
        reason = f"workflow {name} was deleted"
        active = runs.active(session, workflow=name)
        enqueued = cloudevents.enqueue(session, *(events.RunCancelRequested(run=row.name, reason=reason) for row in active))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def assign(deps: Deps, name: str, pattern: str) -> None:
    """Assign a workflow; a repetition changes nothing. Raises NotFoundError for workflow and codeset, InvalidError for the pattern."""
    with deps.store.write() as session:
        enqueued = cloudevents.enqueue(session, *assigning.assign(session, name, pattern))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def unassign(deps: Deps, name: str, pattern: str, *, cancel: bool) -> None:
    """Remove an assignment. Its unfinished runs continue, unless they are to be cancelled.

    Raises NotFoundError for the workflow and for the assignment.
    """
    with deps.store.write() as session:
        removed = workflows.unassign(session, name, pattern)
        reason = f"workflow {name} was unassigned from {pattern}"
        started = [row for row in runs.active(session, workflow=name) if row.trigger.get("assignment") == removed.id] if cancel else []
        enqueued = cloudevents.enqueue(session, *(events.RunCancelRequested(run=row.name, reason=reason) for row in started))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def assignments(deps: Deps, name: str | None) -> list[tuple[str, Sequence[codesets.Codeset], list[str]]]:
    """(workflow, its codesets, its other patterns), by workflow."""
    with deps.store.read() as session:
        by_pattern = {f"code://{row.project}/{row.name}": row for row in codesets.all_codesets(session)}
        rows = sorted(workflows.assignments(session, workflow=name), key=lambda row: row.workflow)
    grouped = itertools.groupby(rows, key=lambda row: row.workflow)
    listed = [(workflow_name, [row.pattern for row in group]) for workflow_name, group in grouped]
    return [
        (
            workflow_name,
            [by_pattern[pattern] for pattern in patterns if pattern in by_pattern],
            [pattern for pattern in patterns if pattern not in by_pattern],
        )
        for workflow_name, patterns in listed
    ]
