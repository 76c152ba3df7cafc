"""Publication of model versions whose webhook was lost, as the same events.

MLflow drops a delivery after its last retry, and pending deliveries when it stops. The sweep reads its registry page by page, the newest
versions first, down to a margin below its watermark: versions of the same moment and late ones are read again, and published ones are
known by name. Versions older than the record of their server are not published.

Changes of tags and aliases are not published again: MLflow keeps no history of them, and their consumers read the current values.
"""

from __future__ import annotations

import functools
import logging
import random
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

# Time limits for all servers together, and for one; an unresponsive server takes one request timeout longer.
_SECONDS = 8.0
_SECONDS_EACH = 4.0
# Servers that one tick reads; of more, each tick reads others.
_MOST = 50
# A version may appear this late behind the newest one.
_LATE_MILLISECONDS = 10 * 60 * 1000


@dataclass(frozen=True)
class _Tracker:
    """A registered server with its watermark (`seen`), and the state of an unfinished walk (`newest`, `token`)."""

    extension: str
    tracking: mlflow.Tracking
    seen: int
    newest: int
    token: str | None


@dataclass
class _Walk:
    """The missed versions as events, and the page for the next tick (`token`); None after a complete walk."""

    missed: list[events.ModelRegistered]
    newest: int
    token: str | None


def publish_missed_models(deps: Deps, tick: events.Event) -> None:
    """Publish model versions of registered tracking servers whose webhook was lost (infra/platform-facts.md 1.4).

    A server that is unreachable or slow is read again with the next tick, and a dead one when a health check finds that it answers again.
    """
    registered = [tracker for record in _records(deps) if (tracker := _tracker(deps, record))]
    for tracker, walk in fan_out.fan_out(functools.partial(_walk, deps), registered, _SECONDS):
        if walk is not None:
            _publish(deps, tracker, walk, tick)


def _records(deps: Deps) -> list[extension.Extension]:
    with deps.store.read() as session:
        answering = extensions.answering(session, trackers.RESOURCE)
        return extensions.of_ids(session, random.sample(answering, min(len(answering), _MOST)))


def _tracker(deps: Deps, record: extension.Extension) -> _Tracker | None:
    try:
        tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone, deps.tracking)
    except errors.PermanentError as error:
        deps.conditions.fault(_log, _subject(record.id), error.message)
        return None
    if tracking is None:
        return None
    begin = int(times.unix(record.status.registered) * 1000) if record.status.registered else 0
    with deps.store.read() as session:
        cursor = model_versions.cursor(session, record.id, begin)
        # A record that was registered again starts anew.
        return _Tracker(record.id, tracking, max(cursor.seen - _LATE_MILLISECONDS, begin), cursor.newest, cursor.token)


def _subject(extension_id: str) -> str:
    return f"the comparison of models with {extension_id}"


def _walk(deps: Deps, tracker: _Tracker) -> _Walk | None:
    """Walk down from the newest version, or from the page at which the last walk ran out of time. None for an unreachable server."""
    deadline = time.monotonic() + _SECONDS_EACH
    walk = _Walk([], tracker.newest, tracker.token)
    try:
        while True:
            versions, following = tracker.tracking.newest_versions(walk.token)
            for version in versions:
                walk.newest = max(walk.newest, version.created)
                if version.created >= tracker.seen and not _is_published(deps, tracker, version):
                    run_id, tags = tracker.tracking.origin(version)
                    walk.missed.append(_event(tracker.extension, version, run_id, tags))
            deps.conditions.well(_log, _subject(tracker.extension))
            walk.token = following
            if following is None or (versions and versions[-1].created < tracker.seen):
                walk.token = None
                return walk
            if time.monotonic() > deadline:
                return walk
    except errors.FusemlError as error:
        deps.conditions.fault(_log, _subject(tracker.extension), error.message)
        # A new installation of the server refuses the old page token: the next tick starts with the newest version.
        return _Walk(walk.missed, 0, None) if tracker.token and isinstance(error, errors.PermanentError) else None


def _is_published(deps: Deps, tracker: _Tracker, version: mlflow.ModelVersion) -> bool:
    with deps.store.read() as session:
        return model_versions.is_published(session, tracker.extension, version.name, version.version)


def _event(tracker: str, version: mlflow.ModelVersion, run_id: str | None, tags: dict[str, str]) -> events.ModelRegistered:
    return events.ModelRegistered(
        extension=tracker, name=version.name, version=version.version, model_source=version.source, run_id=run_id, tags=tags
    )


def _publish(deps: Deps, tracker: _Tracker, walk: _Walk, tick: events.Event) -> None:
    moment = clock.now()
    with deps.store.write() as session:
        if not extensions.is_known(session, tracker.extension):
            return  # deleted since
        fresh: list[events.ModelRegistered] = []
        for payload in reversed(walk.missed):
            # Checked again: its webhook may have come during the walk.
            published = model_versions.is_published(session, tracker.extension, payload.name, payload.version)
            if not published and not deliveries.is_known(session, events.event(payload, moment)):
                fresh.append(payload)
            model_versions.record_published(session, tracker.extension, payload.name, payload.version)
        enqueued = cloudevents.enqueue(session, *fresh, cause=(tick.source, tick.id))
        model_versions.move(session, tracker.extension, tracker.seen, walk.newest, walk.token)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
