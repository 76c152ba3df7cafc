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
from fuseml.store import codesets, watermarks, workflows

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
    assignments = [item for item in workflows.assignments(session, workflow=row.workflow) if workflows.codeset_project(item.pattern)]
    known: set[tuple[str, str]] = set()
    for assignment in assignments:
        if assignment.created > moment:
            continue
        project, name = workflows.codeset_project(assignment.pattern), assignment.pattern.split("/", 3)[3]
        is_one = workflows.is_one_codeset(assignment.pattern)
        for codeset in [name] if is_one else codesets.matching(session, project, assignment.pattern):
            if (project, codeset) not in known:
                known.add((project, codeset))
                yield events.ScheduleReached(
                    workflow=row.workflow, due=minute, assignment=assignment.id, codeset=None if is_one else codeset
                )
    if not assignments and not any(item.is_codeset for item in Workflow.model_validate(row.document).inputs):
        yield events.ScheduleReached(workflow=row.workflow, due=minute)
