"""What a change of a record would do to the workflows: gathers from the store what `domain.workflows.impact` judges, and refuses what it may not.

A workflow is judged for the projects that its assignments name. A pattern may leave the project open, and nobody knows who will push:
therefore also for the projects and users of its latest runs, and for no project and nobody in particular.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.domain.workflows import ExtensionRequirement, Workflow, impact
from fuseml.store import extensions, paging, runs, workflows

_LATEST = paging.Page(limit=20)
_EVERYTHING = paging.Page(limit=1_000_000)
_NAMED = 3


def assess(session: sqlmodel.Session, before: extension.Extension | None, after: extension.Extension | None, *, home: str) -> impact.Impact:
    """The impact of changing one record; None is a record that does not exist."""
    uses: list[impact.Use] = []
    wanted: dict[ExtensionRequirement, None] = {}
    assigned = workflows.assignments(session)
    for row in workflows.current(session, _EVERYTHING).rows:
        document = Workflow.model_validate(row.document)
        concerned = impact.candidate_steps(document, before, after)
        wanted |= dict.fromkeys(requirement for step in concerned for requirement in step.extensions)
        uses += _uses(session, row, document, [item for item in assigned if item.workflow == row.workflow], known=bool(concerned))
    changed = {record.id for record in (before, after) if record}
    others = [record for record in extensions.candidates(session, list(wanted)) if record.id not in changed]
    return impact.assess(before, after, others, uses, home=home)


def _uses(
    session: sqlmodel.Session,
    row: workflows.WorkflowRevision,
    document: Workflow,
    assignments: Sequence[workflows.Assignment],
    *,
    known: bool,
) -> list[impact.Use]:
    consumers = {(_project(assignment.pattern), "") for assignment in assignments}
    ids = {assignment.id for assignment in assignments}
    for run in runs.page(session, _LATEST, workflow=row.workflow).rows if known and ids else ():
        if run.trigger.get("assignment") in ids:
            consumers |= {(run.project, ""), (run.project, run.trigger.get("user", ""))}
    return [impact.Use(document, row.revision, bool(assignments), project, user) for project, user in sorted(consumers) or [("", "")]]


def _project(pattern: str) -> str:
    """The project that a pattern such as `code://project/codeset` names; empty when it fits several."""
    project = pattern.partition("://")[2].partition("/")[0]
    return "" if "*" in project else project


def refuse_breaking(found: impact.Impact, what: str) -> None:
    """Raises ConflictError, with the impact in its details, when assigned workflows would find no more what they need."""
    broken = found.broken()
    if broken:
        named = [f"{effect.workflow}/{effect.step} {effect.selector!r}" for effect in broken]
        listed = ", ".join(dict.fromkeys(named[:_NAMED])) + (" and others" if len(set(named)) > _NAMED else "")
        message = f"{what} is needed by assigned workflows: without it {listed} would find nothing; force it if that is meant"
        raise errors.ConflictError(message, details={"impact": found.model_dump(mode="json")})
