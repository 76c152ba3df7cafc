"""Assignments of a source. The name of one is `WORKFLOW TARGET`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds.put import Put, digest
from fuseml.domain import events
from fuseml.domain.sources import files
from fuseml.domain.workflows import Workflow
from fuseml.runtime import clock
from fuseml.store import codesets, workflows
from fuseml.usecases import runnables


def fingerprint(session: sqlmodel.Session, name: str) -> str | None:
    """See `Kind`."""
    workflow, _, target = name.partition(" ")
    return digest(target) if workflows.assignments(session, workflow=workflow, pattern=target) else None


def put(_deps: Deps, session: sqlmodel.Session, item: files.Assignment) -> Put:
    """See `Kind`."""
    if item.codeset:
        codesets.codeset(session, *item.codeset.split("/", 1))
    revision = workflows.revision(session, item.workflow)
    project = item.target.partition("://")[2].partition("/")[0]
    runnables.check(session, Workflow.model_validate(revision.document), "" if "*" in project else project, lambda _: None)
    row = workflows.assign(session, uuid.uuid4().hex, item.workflow, item.target, clock.now())
    if row is None:
        return Put("unchanged")
    return Put("created", payloads=[events.WorkflowAssigned(workflow=item.workflow, pattern=item.target, assignment=row.id)])


def remove(_deps: Deps, session: sqlmodel.Session, name: str) -> Sequence[events.Payload]:
    """See `Kind`. The runs that it has started continue."""
    workflow, _, target = name.partition(" ")
    workflows.unassign(session, workflow, target)
    session.flush()
    return []
