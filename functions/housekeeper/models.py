"""Model versions whose webhook was lost: told again, as the events that the webhooks would have become.

MLflow drops a delivery that fails in the end, and all that are on their way when it stops. Its registry is read page by page, the newest
versions first, down to where the last reading began and a little further: versions made at the same moment, or written down late, are
seen again, and those that were told already are known by name. Versions older than the record of their server were never ours to tell.

Tags and aliases are not told again: MLflow keeps no history of them, and what they are now is read where it is needed.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass

from functions.housekeeper.deps import Deps
from fuseml.contents import mlflow, trackers
from fuseml.domain import errors, events, times
from fuseml.domain.registry import extension
from fuseml.probes import fan_out
from fuseml.runtime import clock, cloudevents
from fuseml.store import deliveries, extensions, model_versions

_log = logging.getLogger("fuseml.housekeeper")

# Of all servers together, and of one; one that hangs takes a request's time limit longer.
_SECONDS = 8.0
_SECONDS_EACH = 4.0
# How far behind the newest version that was seen one may still turn up.
_LATE_MILLISECONDS = 10 * 60 * 1000


@dataclass(frozen=True)
class _Tracker:
    """A registered server: how far it was read, and the versions above that which are known."""

    extension: str
    tracking: mlflow.Tracking
    seen: int
    newest: int
    token: str | None


@dataclass
class _Reading:
    """What a server told: versions with their event, and where the next reading goes on (`token`) or that all was compared."""

    missed: list[events.ModelRegistered]
    newest: int
    token: str | None


def announce_missed_models(deps: Deps, tick: events.Event) -> None:
    """What registered tracking servers have and nobody was told, because their webhooks get lost (infra/platform-facts.md 1.4).

    A server that is away or slow is asked again with the next tick.
    """
    known = [tracker for record in _records(deps) if (tracker := _tracker(deps, record))]
    for tracker, reading in fan_out.fan_out(functools.partial(_read, deps), known, _SECONDS):
        if reading is not None:
            _announce(deps, tracker, reading, tick)


def _records(deps: Deps) -> list[extension.Extension]:
    with deps.store.read() as session:
        return extensions.with_resource(session, trackers.RESOURCE)


def _tracker(deps: Deps, record: extension.Extension) -> _Tracker | None:
    try:
        tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone)
    except errors.PermanentError as error:
        _log.warning("the models of %s were not compared: %s", record.id, error.message)
        return None
    if tracking is None:
        return None
    begin = int(times.unix(record.status.registered) * 1000) if record.status.registered else 0
    with deps.store.read() as session:
        cursor = model_versions.cursor(session, record.id, begin)
        # A record that was made anew begins anew.
        return _Tracker(record.id, tracking, max(cursor.seen - _LATE_MILLISECONDS, begin), cursor.newest, cursor.token)


def _read(deps: Deps, tracker: _Tracker) -> _Reading | None:
    """Walk down from the newest version, or from where the last walk ran out of time. None where the server cannot be asked."""
    deadline = time.monotonic() + _SECONDS_EACH
    reading = _Reading([], tracker.newest, tracker.token)
    try:
        while True:
            versions, following = tracker.tracking.newest_versions(reading.token)
            for version in versions:
                reading.newest = max(reading.newest, version.created)
                if version.created >= tracker.seen and not _is_known(deps, tracker, version):
                    run_id, tags = tracker.tracking.origin(version)
                    reading.missed.append(_event(tracker.extension, version, run_id, tags))
            reading.token = following
            if following is None or (versions and versions[-1].created < tracker.seen):
                reading.token = None
                return reading
            if time.monotonic() > deadline:
                return reading
    except errors.FusemlError as error:
        _log.warning("the models of %s were not compared: %s", tracker.extension, error.message)
        # A page token of a server that was set up anew leads nowhere: begin at the top with the next tick.
        return _Reading(reading.missed, 0, None) if tracker.token and isinstance(error, errors.PermanentError) else None


def _is_known(deps: Deps, tracker: _Tracker, version: mlflow.ModelVersion) -> bool:
    with deps.store.read() as session:
        return model_versions.is_announced(session, tracker.extension, version.name, version.version)


def _event(tracker: str, version: mlflow.ModelVersion, run_id: str | None, tags: dict[str, str]) -> events.ModelRegistered:
    return events.ModelRegistered(
        extension=tracker, name=version.name, version=version.version, model_source=version.source, run_id=run_id, tags=tags
    )


def _announce(deps: Deps, tracker: _Tracker, reading: _Reading, tick: events.Event) -> None:
    moment = clock.now()
    with deps.store.write() as session:
        if not extensions.is_known(session, tracker.extension):
            return  # deleted since
        fresh: list[events.ModelRegistered] = []
        for payload in reversed(reading.missed):
            # Asked again: its webhook may have come while the server was read.
            told = model_versions.is_announced(session, tracker.extension, payload.name, payload.version)
            if not told and not deliveries.is_known(session, events.event(payload, moment)):
                fresh.append(payload)
            model_versions.announce(session, tracker.extension, payload.name, payload.version)
        announced = cloudevents.enqueue(session, *fresh, cause=(tick.source, tick.id))
        model_versions.move(session, tracker.extension, tracker.seen, reading.newest, reading.token)
    cloudevents.relay(deps.store, deps.publisher, announced)
