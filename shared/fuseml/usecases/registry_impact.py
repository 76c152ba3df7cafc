"""Impact of a record's change on the stored workflows: the input of `domain.workflows.impact`, and the refusal of breaking changes.

The impact covers the projects in the assignments of a workflow. A pattern can leave the project open, and future users are unknown: the
impact therefore also covers the projects and users of the latest runs, and a run without project and user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlmodel

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.domain.runnables import steps
from fuseml.domain.workflows import ExtensionRequirement, Workflow, impact
from fuseml.store import extensions, paging, runs, workflows
from fuseml.usecases import runnables

_LATEST = paging.Page(limit=20)
_ALL = paging.Page(limit=1_000_000)
_MAX_NAMED = 3


def assess(session: sqlmodel.Session, before: extension.Extension | None, after: extension.Extension | None, *, home: str) -> impact.Impact:
    """The impact of changing one record; None is a record that does not exist."""
    uses: list[impact.Use] = []
    selectors: dict[ExtensionRequirement, None] = {}
    assigned = workflows.assignments(session)
    for row in workflows.current(session, _ALL).rows:
        document = runnables.expanded(session, Workflow.model_validate(row.document), "")
        of_project = bool(steps.unresolved(document))
        with_runs = of_project or bool(impact.candidate_steps(document, before, after))
        found = _uses(session, row, document, [item for item in assigned if item.workflow == row.workflow], with_runs=with_runs)
        if of_project:
            # A project has runnables of its own, with selectors of their own.
            found = [dataclasses.replace(use, workflow=runnables.expanded(session, use.workflow, use.project)) for use in found]
        candidates = [step for use in found for step in impact.candidate_steps(use.workflow, before, after)]
        selectors |= dict.fromkeys(requirement for step in candidates for requirement in step.extensions)
        uses += found
    changed = {record.id for record in (before, after) if record}
    others = [record for record in extensions.candidates(session, list(selectors)) if record.id not in changed]
    return impact.assess(before, after, others, uses, home=home)


def _uses(
    session: sqlmodel.Session,
    row: workflows.WorkflowRevision,
    document: Workflow,
    assignments: Sequence[workflows.Assignment],
    *,
    with_runs: bool,
) -> list[impact.Use]:
    consumers = {(_project(assignment.pattern), "") for assignment in assignments}
    ids = {assignment.id for assignment in assignments}
    for run in runs.page(session, _LATEST, workflow=row.workflow).rows if with_runs and ids else ():
        if run.trigger.get("assignment") in ids:
            consumers |= {(run.project, ""), (run.project, run.trigger.get("user", ""))}
    return [impact.Use(document, row.revision, bool(assignments), project, user) for project, user in sorted(consumers) or [("", "")]]


def _project(pattern: str) -> str:
    """The project in a pattern such as `code://project/codeset`; empty if the pattern matches several."""
    project = pattern.partition("://")[2].partition("/")[0]
    return "" if "*" in project else project


def refuse_breaking(result: impact.Impact, subject: str) -> None:
    """Raises ConflictError, with the impact in its details, if the removal of `subject` breaks assigned workflows."""
    broken = result.broken()
    if broken:
        selectors = [f"{effect.workflow}/{effect.step} {effect.selector!r}" for effect in broken]
        listed = ", ".join(dict.fromkeys(selectors[:_MAX_NAMED])) + (" and others" if len(set(selectors)) > _MAX_NAMED else "")
        message = f"assigned workflows need {subject}: {listed} would match nothing without it; use force to remove it anyway"
        raise errors.ConflictError(message, details={"impact": result.model_dump(mode="json")})
