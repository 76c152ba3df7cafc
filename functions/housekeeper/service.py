"""Use cases of `housekeeper`. Each repair stands alone: one that fails is logged and does not keep the others from their work."""

from __future__ import annotations

import logging
from collections.abc import Callable

from functions.housekeeper import archive, health, models, pushes, schedules
from functions.housekeeper.deps import Deps
from fuseml import servings
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.runtime import clock, cloudevents
from fuseml.servings import record
from fuseml.store import applications, decisions, deliveries, outbox, runs, webhooks
from fuseml.usecases import lifecycle

_log = logging.getLogger("fuseml.housekeeper")

# Seconds that a run may wait for its submission before the sweep asks for it.
_SUBMISSION_GRACE = 15
# Seconds that who has announced an event may take to publish it, before the sweep does.
_PUBLICATION_GRACE = 30
# Seconds after the end of a run for which the sweep asks for reports of its steps that are missing.
_LATE_REPORTS = 3600
_DAY = 86_400


def sweep(deps: Deps, tick: events.Event) -> None:
    """All repairs, once."""
    repairs: tuple[Callable[[Deps, events.Event], None], ...] = (
        pushes.report_missed_pushes,
        schedules.start_scheduled,
        request_submissions,
        expire_approvals,
        observe_runs,
        serve,
        forget,
        publish,
        # Last: they wait for others.
        archive.archive_logs,
        archive.forget_runs,
        archive.remove_logs,
        models.announce_missed_models,
        health.check_health,
    )
    for repair in repairs:
        try:
            repair(deps, tick)
        except errors.FusemlError as error:
            _log.warning("repair %s failed and will be tried again with the next tick: %s", repair.__name__, error.message)
        except Exception:
            # A mistake in one repair must not end the others; it is in the log with its place.
            _log.exception("repair %s failed; the others go on", repair.__name__)


def request_submissions(deps: Deps, tick: events.Event) -> None:
    """Executions that were stored and, because a process died, never handed to the engine."""
    late = clock.ago(_SUBMISSION_GRACE)
    with deps.store.read() as session:
        waiting = [row.name for row in runs.unsubmitted(session) if row.created < late]
    if waiting:
        with deps.store.write() as session:
            asked = (events.RunRequested(request=f"{tick.id}/{name}", run=name) for name in waiting)
            announced = cloudevents.enqueue(session, *asked)
        cloudevents.relay(deps.store, deps.publisher, announced)


def expire_approvals(deps: Deps, _tick: events.Event) -> None:
    """Steps that nobody has approved or rejected in time. Whoever is quicker, the person or the sweep, has decided."""
    with deps.store.read() as session:
        waiting = [(row.name, step.name) for row, step in runs.waiting(session) if lifecycle.is_late(step)]
    for name, step in waiting:
        try:
            with deps.store.write() as session:
                announced = cloudevents.enqueue(session, lifecycle.record_decision(session, runs.get(session, name), step, "expired"))
            cloudevents.relay(deps.store, deps.publisher, announced)
        except errors.ConflictError as error:
            _log.info("an approval did not expire: %s", error.message)


def observe_runs(deps: Deps, _tick: events.Event) -> None:
    """Publish again what the engine reports of runs, unfinished ones and those of which the end of a step is missing: its events may be lost."""
    with deps.store.read() as session:
        executions = [identity.execution_id(row.id, row.execution) for row in runs.unreported(session, clock.ago(_LATE_REPORTS))]
    for execution in executions:
        observed = deps.engine.observe(execution)
        with deps.store.read() as session:
            fresh = [event for event in observed if not deliveries.is_known(session, event)]
        for event in fresh:
            deps.publisher.publish(event)


def serve(deps: Deps, _tick: events.Event) -> None:
    """What applications want and whoever serves them was not told, because a process died, or what a hand has changed since."""
    if deps.serving and deps.api_url:
        record.register(deps.store, deps.keyring, deps.api_url)
    with deps.store.read() as session:
        found = [servings.serving_spec(session, row, deps.keyring.unseal) for row in applications.everything(session)]
    for resource, serving in deps.serving.items():
        serving.reconcile([wanted for wanted in found if wanted is not None and wanted.newest.document.served_by == resource])


def forget(deps: Deps, _tick: events.Event) -> None:
    """Events, their handling and what was decided on them, past their retention; a duplicate that comes later is a new event."""
    before = clock.ago(deps.retention_days * _DAY)
    with deps.store.write() as session:
        outbox.forget_handled(session, before)
        deliveries.forget(session, before)
        webhooks.forget_former(session, clock.now())
        decisions.forget(session, before)


def publish(deps: Deps, _tick: events.Event) -> None:
    """What was committed and never published. Whoever has announced it just now is about to do so."""
    cloudevents.sweep(deps.store, deps.publisher, clock.ago(_PUBLICATION_GRACE))
