"""Whether all that a run leads to has begun: then nobody who follows it need wait for more.

A run's step says what it put out by `run.step_finished`; `artifacts` records from that what is an artifact and tells it by
`artifact.recorded`; `dispatcher` starts runs from that. Each remembers the events that it has handled in the transaction of their effect, so a
run is settled when these are on record. An event that is lost or refused would never be: `PATIENCE` after its end a run counts as settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlmodel

from fuseml.domain import events, runs
from fuseml.runtime import clock
from fuseml.store import artifacts, outbox
from fuseml.store.runs import Run, StepRun

PATIENCE = 60.0
"""Seconds."""


def settled(session: sqlmodel.Session, rows: Sequence[Run], steps: Mapping[str, Sequence[StepRun]]) -> set[str]:
    """The ids of those of `rows` that have finished and have begun all that they lead to. `steps` is by run id."""
    ended = [row for row in rows if row.state in runs.FINISHED]
    long_ago = clock.ago(PATIENCE)
    recent = [row for row in ended if (row.finished or row.created) > long_ago]
    told = {row.id: [_step_event(row, step) for step in steps.get(row.id, ()) if _has_told(step)] for row in recent}
    made = artifacts.made_by(session, [row.name for row in recent]) if recent else {}
    recorded = {row.id: [_artifact_event(item) for item in made.get(row.name, ())] for row in recent}
    known = {
        *outbox.handled_among(session, "artifacts", [event for found in told.values() for event in found]),
        *outbox.handled_among(session, "dispatcher", [event for found in recorded.values() for event in found]),
    }
    open_ = {
        row.id
        for row in recent
        if any((event.source, event.id) not in known for event in (*told[row.id], *recorded[row.id]))
        or any(_is_expected(step) for step in steps.get(row.id, ()))
    }
    return {row.id for row in ended} - open_


def _has_told(step: StepRun) -> bool:
    return step.finished is not None and step.state != "skipped"


def _is_expected(step: StepRun) -> bool:
    """Whether the end of a step is only inferred from that of its run: events come in any order. A step that never began has no event."""
    return step.reused_from is None and step.finished is None and step.state != "skipped"


def _step_event(row: Run, step: StepRun) -> events.Event:
    payload = events.RunStepFinished(run=row.name, workflow=row.workflow, project=row.project, step=step.name, state=step.state)
    return events.event(payload, "")


def _artifact_event(item: artifacts.Artifact) -> events.Event:
    told = events.ArtifactRecorded(
        address=item.address, kind=item.kind, project=item.project, name=item.name, version=item.version, run=item.run
    )
    return events.event(told, "")
