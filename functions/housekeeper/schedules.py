"""Scheduled workflows: publishes `schedule.reached` for each scheduled minute since the last tick.

A minute that passed without a tick is made up for once, within `CATCH_UP`; of several missed minutes only the last one. The id of the event
is derived from workflow, assignment, codeset and minute, so a repeated event is a duplicate.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml.domain import events, times
from fuseml.domain.workflows import Workflow, schedule
from fuseml.runtime import cloudevents
from fuseml.store import watermarks, workflows
from fuseml.usecases import assigned_codesets

CATCH_UP = datetime.timedelta(hours=1)


def start_scheduled(deps: Deps, _tick: events.Event) -> None:
    """Publish the schedules that are due between the watermark and now. The first tick only sets the watermark."""
    now = deps.now()
    with deps.store.write() as session:
        before = watermarks.move(session, "schedules", now)
        if before is None:
            return
        until = times.parse(now)
        after = max(times.parse(before), until - CATCH_UP)
        reached: list[events.ScheduleReached] = []
        for row in workflows.triggered_by(session, "schedule"):
            due = schedule.latest(schedule.parse(row.document["on"]["schedule"]), after, until)
            if due is not None:
                reached += _reached(session, row, due)
        enqueued = cloudevents.enqueue(session, *reached)
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _reached(session: sqlmodel.Session, row: workflows.WorkflowRevision, due: datetime.datetime) -> Iterator[events.ScheduleReached]:
    """One event for each codeset that the workflow is assigned to, by name or by a pattern within a project; one without a project for a workflow
    without codesets. A codeset of two assignments gets one.
    """
    moment = times.render(due)
    if moment < workflows.scheduled_since(session, row):
        return
    minute = times.render_seconds(due)
    for found in assigned_codesets.assigned(session, row.workflow, moment):
        yield events.ScheduleReached(
            workflow=row.workflow, due=minute, assignment=found.assignment.id, codeset=None if found.is_named else found.codeset
        )
    if assigned_codesets.runs_alone(session, Workflow.model_validate(row.document)):
        yield events.ScheduleReached(workflow=row.workflow, due=minute)
