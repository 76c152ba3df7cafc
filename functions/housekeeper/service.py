"""Use cases of `housekeeper`. Each repair stands alone: one that fails is logged and does not keep the others from their work."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from functions.housekeeper import health
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, decisions, deliveries, outbox, runs

if TYPE_CHECKING:
    from functions.housekeeper.app import Deps

_log = logging.getLogger("fuseml.housekeeper")

# Seconds that a run may wait for its submission before the sweep asks for it.
_SUBMISSION_GRACE = 15


def sweep(deps: Deps, tick: events.Event) -> None:
    """All repairs, once."""
    repairs: tuple[Callable[[Deps, events.Event], None], ...] = (
        announce_missed_pushes,
        request_submissions,
        observe_runs,
        forget,
        publish,
        # Last: it waits for others.
        health.check_health,
    )
    for repair in repairs:
        try:
            repair(deps, tick)
        except errors.FusemlError as error:
            _log.warning("repair %s failed and will be tried again with the next tick: %s", repair.__name__, error.message)


def announce_missed_pushes(deps: Deps, tick: events.Event) -> None:
    """A ref that is not where it was last announced: its webhook was lost, or is still on its way and will be a duplicate."""
    with deps.store.read() as session:
        known = [(row, codesets.announced(session, row.project, row.name)) for row in codesets.all_codesets(session)]
    for row, announced in known:
        try:
            heads = deps.git.heads(row.project, row.name)
        except errors.NotFoundError:
            continue  # the repository is being made or was just deleted
        for ref, commit in sorted(heads.items()):
            before = announced.get(ref)
            if before == commit:
                continue
            paths = deps.git.changed_paths(row.project, row.name, before, commit) if before else None
            with deps.store.write() as session:
                if codesets.find_codeset(session, row.project, row.name) is None:
                    break  # deleted since
                codesets.announce(session, row, ref, commit, clock.now())
                missed = events.CodesetPushed(
                    project=row.project, codeset=row.name, ref=ref, before=before, commit=commit, paths=paths, registered=row.created
                )
                cloudevents.announce(session, missed, cause=(tick.source, tick.id))


def request_submissions(deps: Deps, tick: events.Event) -> None:
    """Runs that were stored and, because a process died, never handed to the engine."""
    late = _ago(seconds=_SUBMISSION_GRACE)
    with deps.store.read() as session:
        waiting = [row.name for row in runs.unsubmitted(session) if row.created < late]
    if waiting:
        with deps.store.write() as session:
            cloudevents.announce(session, *(events.RunRequested(request=f"{tick.id}/{name}", run=name) for name in waiting))


def observe_runs(deps: Deps, _tick: events.Event) -> None:
    """Tell the state of unfinished runs again, as the engine sees it: its own events may be lost."""
    with deps.store.read() as session:
        unfinished = [row.id for row in runs.active(session) if row.submitted]
    for run_id in unfinished:
        for event in deps.engine.observe(run_id):
            deps.publisher.publish(event)


def forget(deps: Deps, _tick: events.Event) -> None:
    """Events, their handling and what was decided on them, past their retention; a duplicate that comes later is a new event."""
    before = _ago(days=deps.retention_days)
    with deps.store.write() as session:
        outbox.forget_handled(session, before)
        deliveries.forget(session, before)
        decisions.forget(session, before)


def publish(deps: Deps, _tick: events.Event) -> None:
    """What was committed and never published."""
    cloudevents.relay(deps.store, deps.publisher)


def _ago(*, days: int = 0, seconds: int = 0) -> str:
    moment = datetime.datetime.fromisoformat(clock.now()) - datetime.timedelta(days=days, seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
