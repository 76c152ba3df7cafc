"""Impact of a record's change on the stored workflows: the input of `domain.workflows.impact`, and the refusal of breaking changes.

The impact covers the projects in the assignments of a workflow. A pattern can leave the project open, and future users are unknown: the
impact therefore also covers the projects and users of the latest runs, and a run without project and user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlmodel

from fuseml.domain import artifact, errors
from fuseml.domain.registry import artifact_stores, extension, selector
from fuseml.domain.runnables import steps
from fuseml.domain.workflows import Workflow, impact, store_needs
from fuseml.store import artifact_names, artifacts, extensions, paging, runs, workflows
from fuseml.usecases import runnables, stores

_LATEST = paging.Page(limit=20)
_ALL = paging.Page(limit=1_000_000)
_MAX_NAMED = 3


def assess(
    session: sqlmodel.Session,
    before: extension.Extension | None,
    after: extension.Extension | None,
    *,
    home: str,
    facts: artifact_stores.FactsOf,
) -> impact.Impact:
    """The impact of changing one record; None is a record that does not exist."""
    uses: list[impact.Use] = []
    selectors: dict[selector.Selector, None] = {}
    assigned = workflows.assignments(session)
    for row in workflows.current(session, _ALL).rows:
        document = runnables.expanded(session, Workflow.model_validate(row.document), "")
        of_project = bool(steps.unresolved(document))
        held = _held(session, document)
        with_runs = of_project or bool(impact.Use(document, held=held).affected(before, after))
        found = _uses(session, row, document, held, [item for item in assigned if item.workflow == row.workflow], with_runs=with_runs)
        if of_project:
            # A project has runnables of its own, with selectors of their own.
            found = [dataclasses.replace(use, workflow=runnables.expanded(session, use.workflow, use.project)) for use in found]
        selectors |= dict.fromkeys(wanted for use in found for step in use.affected(before, after) for wanted in use.selectors(step))
        uses += found
    changed = {record.id for record in (before, after) if record}
    others = [record for record in extensions.candidates(session, list(selectors)) if record.id not in changed]
    return impact.assess(before, after, others, uses, home=home, facts=facts)


def _held(session: sqlmodel.Session, document: Workflow) -> store_needs.Held:
    """The stores of the recorded artifacts that the workflow names itself."""
    held: dict[str, selector.Selector | None] = {}
    for text in store_needs.addresses(document):
        reference = artifact.reference(text)
        try:
            address = artifact_names.tagged(session, reference) if isinstance(reference, artifact.Tagged) else text
        except errors.NotFoundError:
            continue
        row = artifacts.find(session, address)
        if row is not None and not row.external:
            held[text] = stores.recorded(row)
    return held


def _uses(
    session: sqlmodel.Session,
    row: workflows.WorkflowRevision,
    document: Workflow,
    held: store_needs.Held,
    assignments: Sequence[workflows.Assignment],
    *,
    with_runs: bool,
) -> list[impact.Use]:
    consumers = {(_project(assignment.pattern), "") for assignment in assignments}
    ids = {assignment.id for assignment in assignments}
    for run in runs.page(session, _LATEST, workflow=row.workflow).rows if with_runs and ids else ():
        if run.trigger.get("assignment") in ids:
            consumers |= {(run.project, ""), (run.project, run.trigger.get("user", ""))}
    return [impact.Use(document, row.revision, bool(assignments), project, user, held) for project, user in sorted(consumers) or [("", "")]]


def _project(pattern: str) -> str:
    """The project in a pattern such as `code://project/codeset`; empty if the pattern matches several."""
    project = pattern.partition("://")[2].partition("/")[0]
    return "" if "*" in project else project


def refuse_breaking(result: impact.Impact, subject: str, remedy: str = "use force to remove it anyway") -> None:
    """Raises ConflictError, with the remedy, and the impact in its details, if the removal of `subject` breaks assigned workflows."""
    broken = result.broken()
    if broken:
        selectors = [f"{effect.workflow}/{effect.step} {effect.selector!r}" for effect in broken]
        listed = ", ".join(dict.fromkeys(selectors[:_MAX_NAMED])) + (" and others" if len(set(selectors)) > _MAX_NAMED else "")
        message = f"assigned workflows need {subject}: {listed} would match nothing without it; {remedy}"
        raise errors.ConflictError(message, details={"impact": result.model_dump(mode="json")})
