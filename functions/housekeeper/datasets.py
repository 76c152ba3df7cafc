"""New data sets in codesets: the versions that a push has brought to a store whose versions come with pushes, recorded as artifacts.

An event `codeset.pushed` has the data of its commit recorded at once. The sweep does the same for each codeset whose default branch has moved
since it was looked at, so that a lost or refused event loses nothing. Both may be repeated, late, out of order or at the same time: a version is
recorded once, and starts workflows once, whichever comes first. Only the git host is asked, and only about codesets that have moved.

Data from before the registration of the store starts nothing: what the branch had at that time, and the versions in its history, which the
sweep records little by little. The position in a codeset is stored in the transaction that records the versions before it.
"""

from __future__ import annotations

import functools
import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlmodel

from functions.housekeeper import followed
from functions.housekeeper.deps import Deps
from fuseml import artifactstores
from fuseml.domain import artifact, errors, events, times
from fuseml.probes import fan_out
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifacts, codesets, decisions, lineage, watermarks
from fuseml.usecases import artifact_records, stores

_log = logging.getLogger("fuseml.housekeeper")

# Time limits for all codesets together, and for the history of one.
_SECONDS = 8.0
_SECONDS_EACH = 4.0
# Versions of a history in one tick; the next one continues.
_MOST = 500
# Codesets that are read side by side.
_AT_ONCE = 32
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Position:
    """The commit up to which the data of a codeset is recorded, and the position in its history; None when all of that is recorded."""

    commit: str = ""
    history: str | None = ""

    @staticmethod
    def of(text: str | None) -> _Position:
        """The stored position; the first one without it."""
        return _Position(*json.loads(text)) if text else _Position()

    def __str__(self) -> str:
        return json.dumps([self.commit, self.history])


@dataclass(frozen=True)
class _Target:
    """A commit of a codeset whose data may be new in a store. `before` is the commit up to which it is recorded, if any.

    `moment` is the time of the push; data of a push before the registration of the store starts nothing. `stored` is the present watermark.
    """

    store: followed.Store
    codeset: codesets.Codeset
    commit: str
    before: str | None
    moment: str
    stored: str | None = None

    @property
    def job(self) -> str:
        return _job(self.store, self.codeset)

    @property
    def starts(self) -> bool:
        return times.normalize(self.moment) > times.normalize(self.store.registered)


@dataclass(frozen=True)
class _Found:
    """The versions of the commit, those of the history before the registration of the store, and the position behind both."""

    pushed: artifactstores.Pushed
    earlier: Sequence[artifactstores.Brought]
    position: _Position


@dataclass(frozen=True)
class Look:
    """What a push has brought to each store, by target; `refusals` are the reasons of those that do not hold the data of the codeset."""

    found: Sequence[tuple[_Target, artifactstores.Pushed]]
    refusals: Sequence[str] = ()


def look_at_push(deps: Deps, event: events.Event) -> Look:
    """Read the data of a push to the default branch. Raises TemporaryError while the git host is away: the event then comes again."""
    push = events.CodesetPushed.model_validate(event.data)
    with deps.store.read() as session:
        found = [store for store in followed.stores(session) if store.is_pushed]
        codeset = codesets.find_codeset(session, push.project, push.codeset) if found else None
        if codeset is None or (push.registered and push.registered != codeset.created):
            return Look(())
        if push.ref != codesets.default_ref(session, push.project, push.codeset):
            return Look(())
    targets = [_Target(store, codeset, push.commit, push.before, event.time) for store in found]
    results: list[tuple[_Target, artifactstores.Pushed]] = []
    refusals: list[str] = []
    for target in targets:
        try:
            store = _connect(deps, target)
            if store is not None:
                results.append((target, store.pushed(push.project, push.codeset, push.commit, push.before)))
        except errors.NotFoundError:
            continue  # the repository was deleted since
        except errors.PermanentError as error:
            refusals.append(error.message)
    return Look(results, [] if results else refusals)


def record_pushed(session: sqlmodel.Session, event: events.Event, look: Look) -> Sequence[events.Payload]:
    """Record the data of a push. The reasons for which some is left out are among the decisions on the event."""
    payloads: list[events.Payload] = []
    problems = [*look.refusals]
    for target, pushed in look.found:
        if _is_present(session, target):
            payloads += _record(session, target, pushed.versions, target.moment)
            problems += pushed.problems
    for problem in problems[:_SHOWN]:
        reason = f"data of {event.subject} is not recorded: {problem}"
        decisions.record(session, event, reason, clock.now(), commit=str(event.data["commit"]))
    return payloads


def record_datasets(deps: Deps, tick: events.Event) -> None:
    """Record the new data of every codeset that has moved, and a part of the histories that are not recorded yet."""
    with deps.store.read() as session:
        found = [store for store in followed.stores(session) if store.is_pushed]
        positions = watermarks.positions(session, followed.POSITIONS)
        heads = codesets.default_heads(session) if found else []
        targets = [target for store in found for head in heads if (target := _target(store, head, positions))]
        ended = _ended(session, positions)
    # In another order each time: those that time runs out for are not always the same.
    random.shuffle(targets)
    deadline = time.monotonic() + _SECONDS
    for start in range(0, len(targets), _AT_ONCE):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        # What is read is recorded before more is read: nothing that was read in time is read again.
        for target, result in list(fan_out.fan_out(functools.partial(_look, deps), targets[start : start + _AT_ONCE], left)):
            if result is not None:
                _settle(deps, target, result, tick)
    if ended:
        with deps.store.write() as session:
            watermarks.forget(session, ended)


def _target(store: followed.Store, head: codesets.Head, positions: Mapping[str, str]) -> _Target | None:
    """What is to be looked at in a codeset; None where all is recorded."""
    stored = positions.get(_job(store, head.codeset))
    position = _Position.of(stored)
    if (position.commit, position.history) == (head.commit, None):
        return None
    if position.commit:
        before: str | None = position.commit
    elif head.codeset.created > store.registered:
        before = None
    else:
        # Only what came with the last push may be newer than the store.
        before = head.before
    return _Target(store, head.codeset, head.commit, before, clock.now() if position.commit else head.updated, stored)


def _job(store: followed.Store, codeset: codesets.Codeset) -> str:
    return store.position(f"{codeset.project}/{codeset.name}@{codeset.created}")


def _ended(session: sqlmodel.Session, positions: Mapping[str, str]) -> list[str]:
    """The positions in stores and codesets that are no longer registered."""
    if not positions:
        return []
    present = followed.stores(session)
    jobs = {_job(store, codeset) for store in present if store.is_pushed for codeset in codesets.all_codesets(session)}
    prefixes = tuple(store.position("") for store in present if not store.is_pushed)
    return [job for job in positions if job not in jobs and not job.startswith(prefixes)]


def _connect(deps: Deps, target: _Target) -> artifactstores.PushedStore | None:
    """The store over the git host of the installation; None where the project of the codeset does not find it.

    Without secrets: the contents are not read.
    """
    binding = target.store.binding(target.codeset.project, deps.zone)
    if binding is None:
        return None
    connection = artifactstores.Connection(
        binding.service_resource, binding.url, binding.configuration, target.codeset.project, git=deps.git
    )
    store = artifactstores.connect(connection)
    if not isinstance(store, artifactstores.PushedStore):
        raise errors.PermanentError(f"the artifact store {target.store.name} ({binding.service_resource}) is none of pushes")
    return store


def _look(deps: Deps, target: _Target) -> _Found | None:
    """The versions to record; None where the store cannot be asked now, or is not found by the project."""
    codeset, subject = target.codeset, f"the data of {target.codeset.project}/{target.codeset.name} in {target.store.name}"
    position = _Position.of(target.stored)
    try:
        store = _connect(deps, target)
        if store is None:
            return None
        pushed = artifactstores.Pushed([])
        if position.commit != target.commit:
            pushed = store.pushed(codeset.project, codeset.name, target.commit, target.before)
        earlier, history = _history(store, target, position.history)
        deps.conditions.well(_log, subject)
        return _Found(pushed, earlier, _Position(target.commit, history))
    except errors.NotFoundError:
        return None  # the repository was deleted since
    except errors.InvalidError as error:
        # Its data is elsewhere, as the decision on the push says. It is looked at again when it moves.
        _log.info("%s: %s", subject, error.message)
        return _Found(artifactstores.Pushed([]), [], _Position(target.commit, None))
    except errors.PermanentError as error:
        deps.conditions.fault(_log, subject, error.message)
        return _Found(artifactstores.Pushed([]), [], _Position(target.commit, None))
    except errors.TemporaryError as error:
        deps.conditions.fault(_log, subject, error.message)
        return None


def _history(store: artifactstores.PushedStore, target: _Target, after: str | None) -> tuple[list[artifactstores.Brought], str | None]:
    """Versions of the history that are older than the store's registration, and the position behind them; None at the end."""
    found: list[artifactstores.Brought] = []
    if after is None:
        return found, None
    # Git knows whole seconds: a commit of the same second may be a newer one, which its push brings.
    deadline, since = time.monotonic() + _SECONDS_EACH, times.unix(target.store.registered) * 1000 - 1000
    for position, brought in store.earlier(target.codeset.project, target.codeset.name, target.commit, after):
        if brought.description.created < since:
            found.append(brought)
        if len(found) >= _MOST or time.monotonic() > deadline:
            return found, position
    return found, None


def _settle(deps: Deps, target: _Target, result: _Found, tick: events.Event) -> None:
    with deps.store.write() as session:
        if not _is_present(session, target):
            return
        payloads = _record(session, target, result.pushed.versions, target.moment)
        # They start nothing.
        _record(session, target, result.earlier, "")
        # Another sweep may have stored a later one: its versions are recorded, too.
        watermarks.put(session, target.job, str(result.position), target.stored)
        enqueued = cloudevents.enqueue(session, *payloads, cause=(tick.source, tick.id))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    for problem in result.pushed.problems[:_SHOWN]:
        _log.warning("data of %s/%s is not recorded: %s", target.codeset.project, target.codeset.name, problem)


def _is_present(session: sqlmodel.Session, target: _Target) -> bool:
    row = codesets.find_codeset(session, target.codeset.project, target.codeset.name)
    return row is not None and row.created == target.codeset.created and followed.is_registered(session, target.store)


def _record(session: sqlmodel.Session, target: _Target, versions: Sequence[artifactstores.Brought], moment: str) -> list[events.Payload]:
    """Record versions that came at a moment, each with its origin, the codeset version that brought it. Returns the events to publish."""
    payloads: list[events.Payload] = []
    for brought in versions:
        description = brought.description
        if artifacts.find(session, str(description.address)) is not None:
            continue
        if artifact_records.is_gone(session, description.address, description.digest, since=moment):
            continue
        recorded = artifact_records.record(
            session,
            description.address,
            None,
            {**description.about.metadata, "uri": brought.uri, stores.STORE_FACT: target.store.name},
            format=description.about.format,
            digest=description.digest,
            size=description.size,
        )
        origin = artifact.code(target.codeset.project, target.codeset.name, brought.commit)
        lineage.link(session, str(origin), str(description.address), "")
        payloads += recorded if target.starts else []
    return payloads
