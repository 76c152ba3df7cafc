"""The codesets that a workflow is assigned to, for triggers that name none: schedules, and records of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlmodel

from fuseml.domain.workflows import Workflow
from fuseml.store import codesets, workflows


class Assigned(NamedTuple):
    """A codeset, and the assignment that holds for it; `is_named` if the assignment names this codeset alone."""

    assignment: workflows.Assignment
    project: str
    codeset: str
    is_named: bool


def assigned(session: sqlmodel.Session, workflow: str, until: str = "") -> Iterator[Assigned]:
    """Each codeset that the workflow is assigned to, by name or by a pattern within a project, once; of the assignments made at or before `until`."""
    known: set[tuple[str, str]] = set()
    for assignment in workflows.assignments(session, workflow=workflow):
        project = workflows.codeset_project(assignment.pattern)
        if not project or (until and assignment.created > until):
            continue
        is_named = workflows.is_one_codeset(assignment.pattern)
        named = [assignment.pattern.split("/", 3)[3]] if is_named else codesets.matching(session, project, assignment.pattern)
        for name in named:
            if (project, name) not in known:
                known.add((project, name))
                yield Assigned(assignment, project, name, is_named)


def runs_alone(session: sqlmodel.Session, document: Workflow) -> bool:
    """Whether the workflow runs without a codeset: it takes none, and is assigned to none."""
    listed = workflows.assignments(session, workflow=document.name)
    return not any(workflows.codeset_project(item.pattern) for item in listed) and not any(item.is_codeset for item in document.inputs)
