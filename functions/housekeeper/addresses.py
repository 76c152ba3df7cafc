"""Moving addresses of applications' models: an alias, a stage, `latest`, a run. Each is compared with the version that it names by now.

An application with `follow` gets a new revision of that version; any other one keeps its own, and its record shows that it is behind. An
address that is not resolved yet is resolved in both cases. MLflow's events hasten the comparison, which the sweep makes anyway: the version
is always read from the tracking server, so that events may be repeated, late, out of order or lost. Of comparisons side by side the first
stored one counts, and the others begin again, so that no earlier answer replaces a later one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml.contents import mlflow, trackers
from fuseml.domain import application, errors, events, model_address
from fuseml.domain.registry import extension
from fuseml.domain.runs import causes
from fuseml.runtime import clock
from fuseml.store import applications, extensions, model_addresses
from fuseml.usecases import model_digests

_log = logging.getLogger("fuseml.housekeeper")

# Bounds of one tick; the next one continues.
_SECONDS = 8.0
_MOST = 200
_ATTEMPTS = 3
_PROBLEM = 500

# Tracking servers that did not answer in this comparison, and how.
_Unreachable = dict[str, str]


def compare_addresses(deps: Deps, _tick: events.Event) -> bool:
    """Compare the addresses whose last comparison is `address_interval` seconds old. Returns whether an application has followed one."""
    with deps.store.read() as session:
        due = model_addresses.due(session, clock.ago(deps.address_interval), _MOST)
    return _compare(deps, due)


def on_model_changed(deps: Deps, event: events.Event) -> bool:
    """Compare the addresses of the model that `model.aliased` or `model.registered` names. Returns whether an application has followed one."""
    with deps.store.read() as session:
        concerned = [address for address in model_addresses.all_addresses(session) if _model(address.requested) == event.data["name"]]
    return _compare(deps, concerned)


def _model(requested: str) -> str | None:
    moving = model_address.moving(requested)
    return moving.model if isinstance(moving, model_address.Alias | model_address.Newest) else None


def _compare(deps: Deps, addresses: Sequence[model_addresses.ModelAddress]) -> bool:
    if not addresses:
        return False
    with deps.store.read() as session:
        records = extensions.with_resource(session, trackers.RESOURCE)
    deadline, unreachable, followed = time.monotonic() + _SECONDS, _Unreachable(), False
    for address in addresses:
        if time.monotonic() > deadline:
            break
        followed |= _compared(deps, records, address.application, unreachable)
    return followed


def _compared(deps: Deps, records: Sequence[extension.Extension], name: str, unreachable: _Unreachable) -> bool:
    """Compare the address of one application. Adds a tracking server that does not answer to `unreachable`, and asks none of these again."""
    for _ in range(_ATTEMPTS):
        with deps.store.read() as session:
            row = applications.find(session, name)
            address = model_addresses.find(session, row) if row else None
            server = (row.document.get("tracking_uri") or "") if row else ""
        if address is None:
            with deps.store.write() as session:
                model_addresses.forget_stray(session, name)
            return False
        latest, digest, problem = _resolved(deps, records, server, address.requested, unreachable)
        with deps.store.write() as session:
            outcome = _settled(session, name, address.number, latest, digest, problem)
        if outcome is not None:
            subject = f"the model of application {name} at {address.requested}"
            if problem:
                deps.conditions.fault(_log, subject, problem)
            else:
                deps.conditions.well(_log, subject)
            return outcome
    return False


def _resolved(
    deps: Deps, records: Sequence[extension.Extension], server: str, requested: str, unreachable: _Unreachable
) -> tuple[str | None, str | None, str]:
    """The exact address that `requested` names, the digest with which it is tagged, and the reason where there is none."""
    if server in unreachable:
        return None, None, unreachable[server]
    moving = model_address.moving(requested)
    if moving is None:
        return None, None, f"{requested} is no address that a tracking server resolves"
    try:
        tracking = _tracking(deps, records, server)
        latest = tracking.exact(moving)
        return (latest, _digest(tracking, latest), "") if latest else (None, None, f"{requested} names no version")
    except errors.TemporaryError as error:
        unreachable[server] = error.message
        return None, None, error.message
    except errors.PermanentError as error:
        return None, None, error.message


def _tracking(deps: Deps, records: Sequence[extension.Extension], server: str) -> mlflow.Tracking:
    for record in records:
        tracking = trackers.of_record(record, deps.keyring.unseal, deps.zone, deps.tracking) if trackers.is_at(record, server) else None
        if tracking is not None:
            return tracking
    raise errors.NotFoundError(f"no tracking server at {server or 'an unknown address'} is registered, so the address cannot be compared")


def _digest(tracking: mlflow.Tracking, exact: str) -> str | None:
    """The digest with which the trainer tagged a registered version; a logged model has none."""
    name, _, version = exact.removeprefix("models:/").rpartition("/")
    return model_digests.of_tags(tracking.model_version(name, version).tags) if name else None


def _settled(session: sqlmodel.Session, name: str, number: int, latest: str | None, digest: str | None, problem: str) -> bool | None:
    """Store a comparison that began at `number`, and let the application follow. None if a later one was stored meanwhile."""
    row = applications.find(session, name)
    address = model_addresses.find(session, row) if row else None
    if row is None or address is None:
        return False
    moment, served = clock.now(), str(row.document.get("model") or "")
    follows = latest is not None and latest != served and (address.follow or not model_address.is_exact(served))
    # The trainer tags a version with its digest after its registration, which the application may have followed already.
    undigested = latest == served and address.follow and not row.document.get("digest") and list(row.traffic) == [str(row.revision)]
    expected: str | None = None
    if follows or undigested:
        try:
            expected = model_digests.expected(session, row.document.get("project"), latest, digest)
            follows = follows or expected is not None
        except errors.ConflictError as error:
            follows, problem = False, error.message
    if not model_addresses.compared(session, address, number, latest=latest, problem=causes.shorten(problem, _PROBLEM), now=moment):
        return None
    if not follows:
        return False
    description = causes.shorten(f"{latest}, which {address.requested} named at {moment}", application.DESCRIPTION)
    changes = {"model": latest, "digest": expected, "description": description}
    row = applications.put(session, name, {**row.document, **changes}, moment)
    model_addresses.moved(session, address, row)
    return True
