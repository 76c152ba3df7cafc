"""Use cases of `run_tracker`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlmodel

from fuseml.domain import events, run
from fuseml.runtime import reuse
from fuseml.runtime.telemetry import metrics
from fuseml.store import runs, tables


def track(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Apply what an engine saw. Events about things that are not ours, or that say nothing new, announce nothing."""
    seen = run.observe(event)
    row = runs.find(session, seen.run_id) if seen else None
    if seen is None or row is None:
        return []
    if seen.step is not None:
        announced = _step(session, row, seen)
        if seen.state == "succeeded":
            reuse.keep(session, row)
        return announced
    for name in seen.skipped:
        _advance_step(session, row, run.Observation(seen.run_id, name, "skipped", seen.time))
    before = runs.progress(row)
    after = run.advance(before, seen)
    if after == before:
        return []
    runs.record(session, row, after)
    return _announce_run(session, row, before, after)


def _step(session: sqlmodel.Session, row: tables.Run, seen: run.Observation) -> list[events.Payload]:
    announced: list[events.Payload] = []
    progress = runs.progress(row)
    if progress.state == "queued" and seen.state != "queued":
        # A step that moves proves that the run does; the run's own event may be late.
        started = run.advance(progress, run.Observation(row.id, None, "running", seen.time, started=seen.started))
        runs.record(session, row, started)
        announced += _announce_run(session, row, progress, started)
    finished = _advance_step(session, row, seen)
    return [*announced, finished] if finished else announced


def _advance_step(session: sqlmodel.Session, row: tables.Run, seen: run.Observation) -> events.Payload | None:
    step = session.get(tables.StepRun, (row.id, seen.step))
    if step is None:
        return None
    before = runs.progress(step)
    after = run.advance(before, seen)
    if after == before:
        return None
    runs.record(session, step, after)
    if after.state not in run.FINISHED or before.state in run.FINISHED:
        return None
    return events.RunStepFinished(
        run=row.name,
        workflow=row.workflow,
        project=row.project,
        step=step.name,
        state=after.state,
        cause=after.cause,
        outputs=dict(after.outputs),
    )


def _announce_run(session: sqlmodel.Session, row: tables.Run, before: run.Progress, after: run.Progress) -> list[events.Payload]:
    match after.state:
        case "succeeded" | "failed" | "cancelled" if before.state not in run.FINISHED:
            metrics.run_finished(session, row)
            return [
                events.RunFinished(
                    run=row.name,
                    workflow=row.workflow,
                    project=row.project,
                    codeset=row.codeset,
                    commit=row.commit,
                    state=after.state,
                    cause=after.cause,
                    outputs=dict(after.outputs),
                )
            ]
        case "running" if before.state == "queued":
            return [events.RunStarted(run=row.name, workflow=row.workflow, project=row.project)]
        case _:
            return []
