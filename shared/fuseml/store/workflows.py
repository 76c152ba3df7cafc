"""Queries of workflows, their revisions and their assignments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import sqlalchemy
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from fuseml.domain import errors
from fuseml.store import paging
from fuseml.store.tables import run_rows
from fuseml.store.tables.workflow_rows import Assignment, Workflow, WorkflowRevision

_REMEDY = "wait for them or cancel them first, or force the deletion, which cancels them"


def add(session: Session, name: str, document: dict[str, Any], now: str) -> WorkflowRevision:
    """Store a new workflow; the revisions of a deleted one of that name continue. Raises ConflictError when the name is taken."""
    row = session.get(Workflow, name)
    if row is not None and row.deleted is None:
        raise errors.ConflictError(f"a workflow named {name!r} exists already; change it with `fuseml workflow update`")
    row = row or Workflow(name=name, revision=0, created=now, updated=now)
    row.revision, row.updated, row.deleted = row.revision + 1, now, None
    session.add(row)
    session.flush()
    return _add_revision(session, name, row.revision, document, now)


def revise(session: Session, name: str, document: dict[str, Any], now: str) -> WorkflowRevision:
    """Store a changed document as the next revision; an equal document keeps the revision. Raises NotFoundError."""
    row = workflow(session, name)
    current = revision(session, name, row.revision)
    if current.document == document:
        return current
    row.revision, row.updated = row.revision + 1, now
    session.add(row)
    return _add_revision(session, name, row.revision, document, now)


def _add_revision(session: Session, name: str, number: int, document: dict[str, Any], now: str) -> WorkflowRevision:
    row = WorkflowRevision(workflow=name, revision=number, document=document, created=now)
    session.add(row)
    session.flush()
    return row


def workflow(session: Session, name: str) -> Workflow:
    """The workflow. Raises NotFoundError."""
    row = session.get(Workflow, name)
    if row is None or row.deleted is not None:
        raise _unknown(name)
    return row


def _unknown(name: str) -> errors.NotFoundError:
    return errors.NotFoundError(f"there is no workflow named {name!r}; `fuseml workflow list` shows those that exist")


def is_deleted(session: Session, name: str) -> bool:
    """Whether the workflow does not exist, or no longer."""
    row = session.get(Workflow, name)
    return row is None or row.deleted is not None


def latest(session: Session, name: str) -> int:
    """The number of the newest revision, also of a deleted workflow. Raises NotFoundError if it never existed."""
    row = session.get(Workflow, name)
    if row is None:
        raise _unknown(name)
    return row.revision


def revision(session: Session, name: str, number: int | None = None) -> WorkflowRevision:
    """One revision, the current one by default. Raises NotFoundError."""
    return stored_revision(session, name, workflow(session, name).revision if number is None else number)


def stored_revision(session: Session, name: str, number: int) -> WorkflowRevision:
    """One revision, also of a deleted workflow, whose runs still refer to it. Raises NotFoundError."""
    row = session.get(WorkflowRevision, (name, number))
    if row is None:
        raise errors.NotFoundError(f"workflow {name!r} has no revision {number}")
    return row


def current(session: Session, page: paging.Page, *, name: str | None = None) -> paging.Slice[WorkflowRevision]:
    """A page of the current revisions of all workflows, by name."""
    query = _current()
    if name:
        query = query.where(WorkflowRevision.workflow == name)
    return paging.fetch(session, query, page, WorkflowRevision.workflow)


def named(session: Session, names: Collection[str]) -> list[WorkflowRevision]:
    """The current revisions of those of the workflows that exist."""
    query = _current()
    return [row for batch in paging.batches(names) for row in session.exec(query.where(col(WorkflowRevision.workflow).in_(batch)))]


def _current() -> SelectOfScalar[WorkflowRevision]:
    return (
        select(WorkflowRevision)
        .join(Workflow, col(Workflow.name) == WorkflowRevision.workflow)
        .where(Workflow.revision == WorkflowRevision.revision, col(Workflow.deleted).is_(None))
    )


def triggered_by(session: Session, kind: Literal["schedule", "patterns", "extensions"]) -> Sequence[WorkflowRevision]:
    """The current revisions of the workflows with a trigger of this kind, by name."""
    # A filter by text reads fewer rows; the comparison below decides.
    mentioned = sqlalchemy.cast(col(WorkflowRevision.document), sqlalchemy.Text).contains(f'"{kind}"')
    rows = session.exec(_current().where(mentioned).order_by(col(WorkflowRevision.workflow))).all()
    return [row for row in rows if (row.document.get("on") or {}).get(kind)]


def scheduled_since(session: Session, row: WorkflowRevision) -> str:
    """The time from which the workflow has the revision's schedule."""
    since, schedule = row.created, row.document["on"]["schedule"]
    for number in range(row.revision - 1, 0, -1):
        before = stored_revision(session, row.workflow, number)
        if (before.document.get("on") or {}).get("schedule") != schedule:
            break
        since = before.created
    return since


def revisions(session: Session, name: str, page: paging.Page) -> paging.Slice[WorkflowRevision]:
    """A page of the revisions, newest first. Raises NotFoundError."""
    workflow(session, name)
    query = select(WorkflowRevision).where(WorkflowRevision.workflow == name)
    return paging.fetch(session, query, page, WorkflowRevision.revision, descending=True)


def delete(session: Session, name: str, now: str, *, force: bool = False, remedy: str = _REMEDY) -> None:
    """Delete the workflow and its assignments; runs and revisions stay. `remedy` is that of a refusal.

    Raises NotFoundError and, unless forced, ConflictError while runs are active.
    """
    row = workflow(session, name)
    active = session.exec(
        select(func.count())
        .select_from(run_rows.Run)
        .where(run_rows.Run.workflow == name, col(run_rows.Run.state).in_(("queued", "running", "waiting")))
    ).one()
    if active and not force:
        raise errors.ConflictError(f"workflow {name!r} has {active} active runs; {remedy}")
    for assignment in assignments(session, workflow=name):
        session.delete(assignment)
    row.deleted = now
    session.add(row)


def next_run_name(session: Session, name: str) -> str:
    """The next run's name, `<workflow>-<number>`. Names are never reused: the counter stays when runs are removed."""
    row = session.exec(select(Workflow).where(Workflow.name == name).with_for_update()).one()
    row.runs += 1
    session.add(row)
    return f"{name}-{row.runs}"


def assignments(session: Session, *, workflow: str | None = None, pattern: str | None = None) -> Sequence[Assignment]:
    """Assignments, oldest first."""
    query = select(Assignment).order_by(col(Assignment.created), col(Assignment.id))
    for column, value in ((Assignment.workflow, workflow), (Assignment.pattern, pattern)):
        if value:
            query = query.where(column == value)
    return session.exec(query).all()


def assignments_of(session: Session, names: Collection[str]) -> list[Assignment]:
    """The assignments of several workflows."""
    return [row for batch in paging.batches(names) for row in session.exec(select(Assignment).where(col(Assignment.workflow).in_(batch)))]


def find_assignment(session: Session, assignment_id: str) -> Assignment | None:
    """The assignment, or None if it no longer exists."""
    return session.get(Assignment, assignment_id)


def is_one_codeset(pattern: str) -> bool:
    """Whether an assignment's pattern names exactly one codeset."""
    return pattern.startswith("code://") and "*" not in pattern


def codeset_project(pattern: str) -> str:
    """The project whose codesets an assignment's pattern matches; empty for a pattern of other artifacts, or of several projects."""
    kind, _, place = pattern.partition("://")
    project, slash, _ = place.partition("/")
    return project if kind == "code" and slash and "*" not in project else ""


def assign(session: Session, assignment_id: str, workflow_name: str, pattern: str, now: str) -> Assignment | None:
    """Assign a workflow to a pattern. Returns None if the assignment exists already. Raises NotFoundError for the workflow."""
    workflow(session, workflow_name)
    if assignments(session, workflow=workflow_name, pattern=pattern):
        return None
    row = Assignment(id=assignment_id, workflow=workflow_name, pattern=pattern, created=now)
    session.add(row)
    session.flush()
    return row


def unassign(session: Session, workflow_name: str, pattern: str) -> Assignment:
    """Remove an assignment and return it. Raises NotFoundError for workflow and assignment."""
    workflow(session, workflow_name)
    rows = assignments(session, workflow=workflow_name, pattern=pattern)
    if not rows:
        raise errors.NotFoundError(f"workflow {workflow_name!r} is not assigned to {pattern}")
    session.delete(rows[0])
    return rows[0]
