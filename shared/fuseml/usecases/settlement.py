"""Settlement of runs: a finished run is settled when every run that it leads to has begun, so that a client need not wait for more.

`run.step_finished` carries the outputs of a step; `artifacts` records the artifacts among them and publishes `artifact.recorded`; `dispatcher`
starts runs from that. Both record the events that they have handled in the transaction of the effect, so a run is settled when these
records exist. The record of a lost or refused event never comes: `PATIENCE` after its end a run counts as settled.
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
    """The ids of the settled runs among `rows`. `steps` is by run id."""
    ended = [row for row in rows if row.state in runs.FINISHED]
    long_ago = clock.ago(PATIENCE)
    recent = [row for row in ended if (row.finished or row.created) > long_ago]
    step_events = {row.id: [_step_event(row, step) for step in steps.get(row.id, ()) if _is_reported(step)] for row in recent}
    products = artifacts.produced_by(session, [row.name for row in recent]) if recent else {}
    artifact_events = {
        row.id: [
            *(_artifact_event(item) for item in products.get(row.name, ())),
            # The facts that a step's report has completed may start workflows, too.
            *(
                reply
                for reply in outbox.replies_of(session, "artifacts", step_events[row.id])
                if reply.type == events.ArtifactRecorded.TYPE
            ),
        ]
        for row in recent
    }
    handled = {
        *outbox.handled_among(session, "artifacts", [event for group in step_events.values() for event in group]),
        *outbox.handled_among(session, "dispatcher", [event for group in artifact_events.values() for event in group]),
    }
    open_ = {
        row.id
        for row in recent
        if any((event.source, event.id) not in handled for event in (*step_events[row.id], *artifact_events[row.id]))
        or any(_is_expected(step) for step in steps.get(row.id, ()))
    }
    return {row.id for row in ended} - open_


def settled_steps(session: sqlmodel.Session, row: Run, steps: Sequence[StepRun]) -> set[str]:
    """The names of the steps whose end `artifacts` has handled: their outputs are recorded."""
    reported = {step.name: _step_event(row, step) for step in steps if _is_reported(step)}
    handled = outbox.handled_among(session, "artifacts", list(reported.values()))
    return {name for name, event in reported.items() if (event.source, event.id) in handled}


def _is_reported(step: StepRun) -> bool:
    return step.finished is not None and step.state != "skipped"


def _is_expected(step: StepRun) -> bool:
    """Whether the report of a step's end is still missing, because events come in any order. A step that never began gets no report."""
    return step.reused_from is None and step.finished is None and step.state != "skipped"


def _step_event(row: Run, step: StepRun) -> events.Event:
    payload = events.RunStepFinished(run=row.name, workflow=row.workflow, project=row.project, step=step.name, state=step.state)
    return events.event(payload, "")


def _artifact_event(item: artifacts.Artifact) -> events.Event:
    payload = events.ArtifactRecorded(
        address=item.address, kind=item.kind, project=item.project, name=item.name, version=item.version, run=item.run
    )
    return events.event(payload, "")
