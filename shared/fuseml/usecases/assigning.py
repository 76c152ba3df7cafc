"""The assignment of a workflow, inside a transaction."""

from __future__ import annotations

import uuid

import sqlmodel

from fuseml.domain import events
from fuseml.domain.artifacts import subscription
from fuseml.domain.workflows import Workflow
from fuseml.runtime import clock
from fuseml.store import codesets, workflows
from fuseml.usecases import runnables


def assign(session: sqlmodel.Session, name: str, pattern: str) -> list[events.WorkflowAssigned]:
    """Assign a workflow; a repetition changes nothing. Returns the events to publish.

    Raises NotFoundError for the workflow and for one codeset that does not exist, InvalidError for the pattern.
    """
    subscription.parse(pattern)
    kind, _, rest = pattern.partition("://")
    if kind == "code" and "*" not in rest:
        codesets.codeset(session, *rest.split("/", 1))
    revision = workflows.revision(session, name)
    project = rest.partition("/")[0]
    runnables.check(session, Workflow.model_validate(revision.document), "" if "*" in project else project, lambda _: None)
    row = workflows.assign(session, uuid.uuid4().hex, name, pattern, clock.now())
    return [events.WorkflowAssigned(workflow=name, pattern=pattern, assignment=row.id)] if row is not None else []
