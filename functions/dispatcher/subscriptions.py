"""Which workflows an artifact starts: those that are assigned to it, and those whose document lists it in `on.patterns`.

A workflow is not started by what its own run has led to, directly or through runs of other workflows: it would never end.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlmodel

from fuseml.domain import artifact
from fuseml.store import runs, workflows


class Match(NamedTuple):
    """A workflow that takes an artifact; without an assignment its own document says so."""

    workflow: str
    assignment: str | None

    @property
    def meaning(self) -> str:
        """What tells its run apart from others on the same code."""
        return self.assignment or "pattern"


def matches(session: sqlmodel.Session, kind: str, project: str, name: str) -> list[Match]:
    """One for each assignment, then the workflows that list the artifact and are not assigned to it."""
    assigned = [Match(row.workflow, row.id) for row in workflows.assignments(session) if artifact.matches(row.pattern, kind, project, name)]
    known = {match.workflow for match in assigned}
    listed = [
        Match(row.workflow, None)
        for row in workflows.triggered_by(session, "patterns")
        if row.workflow not in known and any(artifact.matches(pattern, kind, project, name) for pattern in row.document["on"]["patterns"])
    ]
    return [*assigned, *listed]


def cause_of(session: sqlmodel.Session, made_by: str | None, workflow: str) -> str | None:
    """The run of the workflow that `made_by` (a run's name) goes back to, if it goes back to one; it may be that run itself."""
    seen: set[str] = set()
    while made_by and made_by not in seen:
        seen.add(made_by)
        row = runs.find_named(session, made_by)
        if row is None:
            return None
        if row.workflow == workflow:
            return row.name
        made_by = row.caused_by
    return None
