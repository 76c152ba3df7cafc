"""Workflows of a source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml.domain import errors, events
from fuseml.domain.workflows import Workflow
from fuseml.runtime import clock
from fuseml.store import sources, workflows
from fuseml.usecases import runnables


def fingerprints(session: sqlmodel.Session, names: Collection[str]) -> Mapping[str, str]:
    """See `Kind`."""
    return {row.workflow: digest(row.document) for row in workflows.named(session, names)}


def put(_deps: Deps, session: sqlmodel.Session, item: Workflow) -> Put:
    """See `Kind`."""
    runnables.check(session, item, "", lambda _: None)
    document = item.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if workflows.is_deleted(session, item.name):
        row = workflows.add(session, item.name, document, clock.now())
        return Put("created", payloads=[events.WorkflowUpdated(workflow=item.name, revision=row.revision)])
    before = workflows.revision(session, item.name)
    row = workflows.revise(session, item.name, document, clock.now())
    if row.revision == before.revision:
        return Put("unchanged")
    fields = sorted(key for key in {*document, *before.document} if document.get(key) != before.document.get(key))
    return Put("updated", fields, [events.WorkflowUpdated(workflow=item.name, revision=row.revision)])


def remove(_deps: Deps, session: sqlmodel.Session, name: str) -> Sequence[events.Payload]:
    """See `Kind`: while it has runs, or assignments that the source has not made."""
    for row in workflows.assignments(session, workflow=name):
        owner = sources.owner(session, ("assignment", f"{name} {row.pattern}"))
        made, remedy = (
            (f"by the source {owner!r}", "remove it from that source") if owner else ("by hand", "remove it by `fuseml workflow unassign`")
        )
        raise errors.ConflictError(f"workflow {name!r} is assigned to {row.pattern} {made}; {remedy}, or keep the workflow")
    workflows.delete(session, name, clock.now(), remedy="wait for them or cancel them first")
    return []
