"""Use cases of `housekeeper`. The repairs are independent: a failed one is logged, and the others run."""

from __future__ import annotations

import logging
from collections.abc import Callable

from functions.housekeeper import (
    addresses,
    archive,
    changes,
    commit_statuses,
    datasets,
    health,
    lineage,
    models,
    origins,
    previews,
    pushes,
    retention,
    schedules,
)
from functions.housekeeper.deps import Deps
from fuseml import servings
from fuseml.domain import application, errors, events
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED
from fuseml.engines.tekton.events import observe
from fuseml.runtime import clock, cloudevents
from fuseml.servings import record
from fuseml.store import applications, decisions, deliveries, moves, outbox, runs, watermarks, webhooks
from fuseml.usecases import lifecycle

_log = logging.getLogger("fuseml.housekeeper")

# Seconds before the sweep requests the submission of an execution.
_SUBMISSION_GRACE = 15
# Seconds before the sweep publishes an event of the outbox. Until then its own process does.
_PUBLICATION_GRACE = 30
_DAY = 86_400
_SWEEP = "/pingsources/housekeeper"


def on_event(deps: Deps, event: events.Event) -> None:
    """Sweep on a tick; follow an origin that has changed; show the state of a run; compare the addresses of applications with a model that
    has changed.
    """
    if event.type == events.TICK:
        on_tick(deps, event)
    elif event.type == events.CodesetReported.TYPE:
        _repair(deps, origins.follow_reported, event)
    elif event.type in commit_statuses.RUN_EVENTS:
        commit_statuses.report_run(deps, event)
    elif event.type != events.CodesetPushed.TYPE and addresses.on_model_changed(deps, event):
        _repair(deps, serve, event)


def on_tick(deps: Deps, tick: events.Event) -> None:
    """Sweep, unless a sweep is under way: it does the same, and a tick that waits for servers may outlive the time of its delivery.

    A tick that anyone may have sent is only a hint that it is time: nothing is read of it, and it is ignored soon after a sweep.
    """
    if not deps.sweeping.acquire(blocking=False):
        return
    try:
        _on_tick(deps, tick)
    finally:
        deps.sweeping.release()


def _on_tick(deps: Deps, tick: events.Event) -> None:
    moment = clock.now()
    if not deps.signer.has_signed(tick):
        if deps.pause and not _is_due(deps, moment):
            return
        tick = events.Event(events.TICK, _SWEEP, f"tick:{moment}", None, moment, {})
    sweep(deps, tick)


def _is_due(deps: Deps, moment: str) -> bool:
    earliest = clock.ago(deps.pause)
    with deps.store.read() as session:
        before = watermarks.get(session, "sweep")
    if before is not None and before > earliest:
        return False
    with deps.store.write() as session:
        # Of two ticks at once, one sweeps.
        before = watermarks.get(session, "sweep")
        return (before is None or before <= earliest) and watermarks.move(session, "sweep", moment) == before


def sweep(deps: Deps, tick: events.Event) -> None:
    """Run each repair once."""
    repairs: tuple[Callable[[Deps, events.Event], None], ...] = (
        pushes.publish_missed_pushes,
        schedules.start_scheduled,
        request_submissions,
        expire_approvals,
        observe_runs,
        previews.remove_previews,
        serve,
        forget,
        publish,
        # Last, because they wait for other servers.
        archive.archive_logs,
        archive.forget_runs,
        archive.remove_logs,
        datasets.record_datasets,
        changes.record_changes,
        origins.follow_origins,
        commit_statuses.send_statuses,
        models.publish_missed_models,
        follow_addresses,
        health.check_health,
        lineage.send_lineage,
        retention.prune_artifacts,
        retention.delete_contents,
        retention.delete_anonymous,
        retention.discard_leftovers,
    )
    for repair in repairs:
        _repair(deps, repair, tick)


def _repair(deps: Deps, repair: Callable[[Deps, events.Event], None], tick: events.Event) -> None:
    subject = f"the repair {repair.__name__}"
    try:
        repair(deps, tick)
    except errors.FusemlError as error:
        deps.conditions.fault(_log, subject, f"it failed and is retried with each tick: {error.message}")
    except Exception:
        # A defect in one repair must not stop the others; the log has its traceback.
        _log.exception("repair %s failed; the others go on", repair.__name__)
    else:
        deps.conditions.well(_log, subject)


def follow_addresses(deps: Deps, tick: events.Event) -> None:
    """Compare the moving addresses of models, and serve the applications that have followed."""
    if addresses.compare_addresses(deps, tick):
        serve(deps, tick)


def request_submissions(deps: Deps, tick: events.Event) -> None:
    """Request the submission of executions that were stored and, after a crash, never handed to the engine."""
    late = clock.ago(_SUBMISSION_GRACE)
    with deps.store.read() as session:
        waiting = [row.name for row in runs.unsubmitted(session) if row.created < late]
    if waiting:
        with deps.store.write() as session:
            requests = (events.RunRequested(request=f"{tick.id}/{name}", run=name) for name in waiting)
            enqueued = cloudevents.enqueue(session, *requests)
        cloudevents.relay(deps.store, deps.publisher, enqueued)


def expire_approvals(deps: Deps, _tick: events.Event) -> None:
    """Expire approvals past their deadline. The first decision stands, a user's or the sweep's."""
    with deps.store.read() as session:
        waiting = [(row.name, step.name) for row, step in runs.waiting(session) if lifecycle.is_late(step)]
    for name, step in waiting:
        try:
            with deps.store.write() as session:
                enqueued = cloudevents.enqueue(session, lifecycle.record_decision(session, runs.get(session, name), step, "expired"))
            cloudevents.relay(deps.store, deps.publisher, enqueued)
        except errors.ConflictError as error:
            _log.info("an approval did not expire: %s", error.message)


def observe_runs(deps: Deps, _tick: events.Event) -> None:
    """Publish the engine's events again, which may be lost: of unfinished runs, and of recently finished ones with an open step.

    They are signed, because the engine itself has reported them. Whether an event is missing is read from the run: the ledger also holds
    events that others have sent. A requested cancellation is passed on again. A run that the engine no longer has is ended.
    """
    with deps.store.read() as session:
        rows = runs.unreported(session, clock.ago(runs.LATE_REPORTS))
    for row in rows:
        try:
            _observe(deps, row)
        except errors.PermanentError as error:
            _log.warning("run %s cannot be compared with the engine: %s", row.name, error.message)


def _observe(deps: Deps, row: runs.Run) -> None:
    execution = identity.execution_id(row.id, row.execution)
    observed = [(event, observe(event)) for event in deps.engine.observe(execution)]
    if row.state not in FINISHED:
        loss = None if observed else deps.engine.loss(execution)
        if loss is not None:
            lifecycle.end_lost(deps.store, deps.publisher, row, loss)
            return
        if row.cancelled is not None:
            deps.engine.cancel(execution, row.cancelled)
    with deps.store.read() as session:
        missing = [event for event, fact in observed if fact is not None and lifecycle.would_change(session, row, fact)]
    for event in missing:
        deps.publisher.publish(deps.signer.sign(event))


def serve(deps: Deps, _tick: events.Event) -> None:
    """Reconcile the servings with the applications: after a crash, or a manual change on the cluster."""
    if application.BUILT_IN in deps.serving and deps.api_url:
        record.register(deps.store, deps.api_url)
    with deps.store.read() as session:
        specs = [servings.serving_spec(session, row, deps.keyring.unseal) for row in applications.all_applications(session)]
    refusals: list[errors.FusemlError] = []
    for resource, serving in deps.serving.items():
        try:
            serving.reconcile([spec for spec in specs if spec is not None and spec.newest.document.served_by == resource])
        except errors.FusemlError as error:  # one tool keeps no other one from its applications
            refusals.append(error)
    if refusals:
        raise refusals[0]


def forget(deps: Deps, _tick: events.Event) -> None:
    """Delete events, their handling and the decisions on them, past their retention. A later duplicate counts as a new event."""
    before = clock.ago(deps.retention_days * _DAY)
    with deps.store.write() as session:
        outbox.forget_handled(session, before)
        deliveries.forget(session, before)
        webhooks.forget_former(session, clock.now())
        decisions.forget(session, before)
        moves.forget(session, before)


def publish(deps: Deps, _tick: events.Event) -> None:
    """Publish the events of the outbox whose process died before it published them."""
    cloudevents.sweep(deps.store, deps.publisher, clock.ago(_PUBLICATION_GRACE))
