"""Scheduled workflows: tells which of their minutes have come since the last tick.

A minute that was missed, because no tick came, is made up for once, if it is not longer ago than `MADE_UP_FOR`; of several missed
minutes only the last one. What is told has an id of workflow, assignment and minute, so whoever tells it again tells nothing new.
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

MADE_UP_FOR = datetime.timedelta(hours=1)


def start_scheduled(deps: Deps, _tick: events.Event) -> None:
    """Announce what became due after the last look, up to now. The first look of all only begins the count."""
    now = deps.now()
    with deps.store.write() as session:
        before = watermarks.move(session, "schedules", now)
        if before is None:
            return
        until = times.parse(now)
        after = max(times.parse(before), until - MADE_UP_FOR)
        reached: list[events.ScheduleReached] = []
        for row in workflows.triggered_by(session, "schedule"):
            due = schedule.latest(schedule.parse(row.document["on"]["schedule"]), after, until)
            if due is not None:
                reached += _reached(session, row, due)
        announced = cloudevents.enqueue(session, *reached)
    cloudevents.relay(deps.store, deps.publisher, announced)


def _reached(session: sqlmodel.Session, row: workflows.WorkflowRevision, due: datetime.datetime) -> Iterator[events.ScheduleReached]:
    """One for each codeset that the workflow is assigned to; one in no project when it is assigned to none and needs none."""
    moment = times.render(due)
    if moment < workflows.scheduled_since(session, row):
        return
    minute = times.render_seconds(due)
    assigned = [item for item in workflows.assignments(session, workflow=row.workflow) if workflows.is_one_codeset(item.pattern)]
    for assignment in assigned:
        if assignment.created <= moment:
            yield events.ScheduleReached(workflow=row.workflow, due=minute, assignment=assignment.id)
    if not assigned and not any(item.is_codeset for item in Workflow.model_validate(row.document).inputs):
        yield events.ScheduleReached(workflow=row.workflow, due=minute)
