"""Export of lineage: the events of runs, to the OpenLineage endpoint of the installation.

The events follow from the stored runs, so no event can be lost: an event is recorded as sent after the endpoint has accepted it, and a crash
in between sends the same event again. While the endpoint does not answer, one event is tried after each pause; no run waits for it. An event
that the endpoint refuses is given up after some attempts, and the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from functions.housekeeper.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.lineage import openlineage
from fuseml.exports.openlineage import Receiver
from fuseml.runtime import clock
from fuseml.store import lineage_exports, run_records, runs, watermarks
from fuseml.usecases import settlement
from fuseml.version import __version__

_log = logging.getLogger("fuseml.housekeeper")

_BEGIN = "openlineage"
"""The watermark of the moment at which the export was switched on: older runs are not exported."""
_NEXT = "openlineage attempt"
"""The watermark of the next attempt after a failed one."""

# Bounds of one tick; the next one continues.
_SECONDS = 5.0
_MOST = 200
_MOST_REFUSALS = 5


@dataclass(frozen=True, slots=True)
class _Export:
    """The events of a run that are not sent yet. `last`: no others will follow them."""

    run_id: str
    run: str
    pending: list[openlineage.RunEvent]
    last: bool


def send_lineage(deps: Deps, _tick: events.Event) -> None:
    """Send the events of runs that the endpoint has not accepted yet, each run's in order. Raises TemporaryError when it does not answer."""
    receiver = deps.lineage
    if receiver is None or not _is_due(deps):
        return
    deadline = time.monotonic() + _SECONDS
    for run_id in _runs(deps):
        if time.monotonic() > deadline:
            return
        _send_run(deps, receiver, _export(deps, run_id), deadline)


def _send_run(deps: Deps, receiver: Receiver, export: _Export, deadline: float) -> None:
    for event in export.pending:
        if time.monotonic() > deadline or not _send(deps, receiver, export, event):
            return
    if export.last:
        with deps.store.write() as session:
            lineage_exports.mark_done(session, export.run_id)


def _is_due(deps: Deps) -> bool:
    with deps.store.read() as session:
        begun, following = watermarks.get(session, _BEGIN), watermarks.get(session, _NEXT)
    if begun is None:
        with deps.store.write() as session:
            watermarks.move(session, _BEGIN, clock.now())
    return following is None or following <= clock.now()


def _runs(deps: Deps) -> Sequence[str]:
    """The runs with events to come. The export of new ones begins here."""
    with deps.store.read() as session:
        fresh = lineage_exports.fresh(session, watermarks.get(session, _BEGIN) or clock.now(), _MOST)
    if fresh:
        with deps.store.write() as session:
            lineage_exports.begin(session, fresh)
    with deps.store.read() as session:
        return lineage_exports.unfinished(session, _MOST)


def _export(deps: Deps, run_id: str) -> _Export:
    producer = openlineage.Producer(__version__, deps.lineage_namespace, deps.public_url)
    with deps.store.read() as session:
        run = session.get_one(runs.Run, run_id)
        steps = runs.steps(session, [run.id])
        settled = bool(settlement.settled(session, [run], {run.id: steps}))
        record = run_records.read(session, run)
        due = openlineage.events_of(record, producer, settlement.settled_steps(session, run, steps), settled=settled)
        sent = lineage_exports.sent(session, run_id)
    return _Export(run.id, run.name, [event for event in due if event.key not in sent], settled)


def _send(deps: Deps, receiver: Receiver, export: _Export, event: openlineage.RunEvent) -> bool:
    """Whether the next event of the run may follow."""
    try:
        receiver.send(event.document)
    except errors.InvalidError as error:
        with deps.store.write() as session:
            given_up = lineage_exports.mark_refused(session, export.run_id, event.key, _MOST_REFUSALS)
        if given_up:
            _log.warning("the event %s of run %s is not exported: %s", event.key, export.run, error.message)
        return given_up
    except errors.TemporaryError:
        with deps.store.write() as session:
            watermarks.move(session, _NEXT, clock.ahead(deps.lineage_pause))
        raise
    with deps.store.write() as session:
        lineage_exports.mark_sent(session, export.run_id, event.key)
    return True
