"""The workflows that an artifact starts: those with an assignment to it, and those whose document lists it in `on.patterns`.

An artifact does not start a workflow from one of whose runs it derives, directly or through runs of other workflows: that would never end.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlmodel

from fuseml.domain import artifact
from fuseml.store import runs, workflows


class Match(NamedTuple):
    """A workflow that an artifact starts: by an assignment or, without one, by the workflow's own document."""

    workflow: str
    assignment: str | None

    @property
    def meaning(self) -> str:
        """The part of the identity of its run that separates it from other runs on the same code."""
        return self.assignment or "pattern"


def matches(session: sqlmodel.Session, kind: str, project: str, name: str) -> list[Match]:
    """One match for each assignment, then the workflows that list the artifact and are not assigned to it."""
    assigned = [Match(row.workflow, row.id) for row in workflows.assignments(session) if artifact.matches(row.pattern, kind, project, name)]
    names = {match.workflow for match in assigned}
    listed = [
        Match(row.workflow, None)
        for row in workflows.triggered_by(session, "patterns")
        if row.workflow not in names and any(artifact.matches(pattern, kind, project, name) for pattern in row.document["on"]["patterns"])
    ]
    return [*assigned, *listed]


def origin_of(session: sqlmodel.Session, producer: runs.Run | None) -> runs.Run | None:
    """The run on code that the producer derives from, which may be the producer itself; None without one."""
    seen: set[str] = set()
    while producer is not None and producer.codeset is None:
        if producer.caused_by is None or producer.caused_by in seen:
            return None
        seen.add(producer.caused_by)
        producer = runs.find_named(session, producer.caused_by)
    return producer


def cause_of(session: sqlmodel.Session, producer: str | None, workflow: str) -> str | None:
    """The run of the workflow among `producer` (the name of a run) and the runs that caused it; None without one."""
    seen: set[str] = set()
    while producer and producer not in seen:
        seen.add(producer)
        row = runs.find_named(session, producer)
        if row is None:
            return None
        if row.workflow == workflow:
            return row.name
        producer = row.caused_by
    return None
