"""New versions in artifact stores that others write to, read from the changes that a store reports, and recorded as artifacts.

The sweep asks each store from the position of its last answer on, with each account that projects have there, and believes it about the
artifacts of these projects only. A position is stored in the transaction that records the versions before it, so that a death in between
repeats them: known ones are recorded once. Versions from before the registration of the store start nothing, and those that a step of a run
has committed are left to the report of that step, which knows their lineage.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlmodel

from functions.housekeeper import followed
from functions.housekeeper.deps import Deps
from fuseml import artifactstores
from fuseml.artifactstores import choice
from fuseml.domain import artifact, errors, events, times
from fuseml.domain.artifacts import descriptor
from fuseml.domain.documents import document
from fuseml.domain.plans import identity
from fuseml.domain.registry import selector
from fuseml.domain.runnables import descriptor as runnables
from fuseml.probes import fan_out
from fuseml.runtime import cloudevents
from fuseml.store import artifacts, codesets, runs, watermarks
from fuseml.usecases import artifact_records, stores

_log = logging.getLogger("fuseml.housekeeper")

# Time limits for all stores together, and for one; an unresponsive store takes one request timeout longer.
_SECONDS = 8.0
_SECONDS_EACH = 4.0
# New versions of one store in one tick; the next one continues.
_MOST = 500
_AT_ONCE = 500


@dataclass(frozen=True)
class _Account:
    """A store as some projects reach it; `position` is the stored one behind which it is asked, None before the first answer."""

    store: followed.Store
    connection: artifactstores.Connection
    projects: frozenset[str]
    job: str
    position: str | None


@dataclass(frozen=True)
class _New:
    """A version that is not recorded: the checked facts of the store about it."""

    address: artifact.Address
    facts: descriptor.Descriptor
    created: int
    producer: str


@dataclass(frozen=True)
class _Answer:
    """New versions, and the position behind them; None while more of them are left before it."""

    versions: Sequence[_New]
    position: str | None


def record_changes(deps: Deps, tick: events.Event) -> None:
    """Record the new versions of every registered store that reports changes. One that is away or slow is asked again with the next tick."""
    with deps.store.read() as session:
        found = [store for store in followed.stores(session) if not store.is_pushed]
        accounts = [account for store in found for account in _accounts(deps, session, store)] if found else []
    for account, answer in fan_out.fan_out(functools.partial(_ask, deps), accounts, _SECONDS):
        if answer is not None:
            _record(deps, account, answer, tick)


def _accounts(deps: Deps, session: sqlmodel.Session, store: followed.Store) -> Iterator[_Account]:
    """The store for each set of credentials with which a project reaches it."""
    projects: dict[tuple[str, str], set[str]] = {}
    bindings: dict[tuple[str, str], selector.Binding] = {}
    for project in codesets.project_names(session):
        binding = store.binding(project, deps.zone)
        if binding is not None:
            account = (binding.credentials_id, binding.url)
            bindings.setdefault(account, binding)
            projects.setdefault(account, set()).add(project)
    for account, binding in bindings.items():
        try:
            # Before a secret is opened: most stores report nothing. An agent is asked what it does.
            if "changes" not in artifactstores.facts(binding).capabilities:
                continue
            connection = choice.connection(session, binding, deps.keyring.unseal)
        except errors.PermanentError as error:
            deps.conditions.fault(_log, _subject(store), error.message)
            continue
        job = store.position(account[0])
        yield _Account(store, connection, frozenset(projects[account]), job, watermarks.get(session, job))


def _subject(store: followed.Store) -> str:
    return f"the comparison of artifacts with {store.name}"


def _ask(deps: Deps, account: _Account) -> _Answer | None:
    """The new versions of a store; None from one that reports no changes, or does not answer."""
    subject = _subject(account.store)
    try:
        store = artifactstores.connect(account.connection)
        if "changes" not in store.capabilities:
            return None
        answer = _walk(deps, account, store)
        deps.conditions.well(_log, subject)
        return answer
    except errors.FusemlError as error:
        deps.conditions.fault(_log, subject, error.message)
    except Exception:
        # A defect in a store of another package must not stop the others; the log has its traceback.
        _log.exception("%s failed; the others go on", subject)
    return None


def _walk(deps: Deps, account: _Account, store: artifactstores.ArtifactStore) -> _Answer:
    """Read from the position on until nothing follows, or until the limits of one tick."""
    deadline, position, found = time.monotonic() + _SECONDS_EACH, account.position or "", list[_New]()
    while True:
        changes = store.changes(position)
        for address in _unknown(deps, account, changes.addresses):
            if time.monotonic() > deadline or len(found) >= _MOST:
                # The next tick asks from the same position, and finds these recorded.
                return _Answer(found, position if position != (account.position or "") else None)
            new = _new(deps, account, store, address)
            if new is not None:
                found.append(new)
        if changes.position == position or not changes.addresses:
            return _Answer(found, changes.position)
        position = changes.position


def _unknown(deps: Deps, account: _Account, addresses: Sequence[artifact.Address]) -> Iterator[artifact.Address]:
    """Those of the account's projects that are not recorded."""
    own = list(dict.fromkeys(address for address in addresses if address.project in account.projects))
    for start in range(0, len(own), _AT_ONCE):
        part = own[start : start + _AT_ONCE]
        with deps.store.read() as session:
            known = artifacts.known(session, [str(address) for address in part])
        yield from (address for address in part if str(address) not in known)


def _new(deps: Deps, account: _Account, store: artifactstores.ArtifactStore, address: artifact.Address) -> _New | None:
    """The facts about a version; None for one that was deleted since, and for one that cannot be recorded."""
    try:
        if address.kind == "code" or (address.kind == "runnable" and runnables.is_version(address.version)):
            raise errors.InvalidError(
                f"no store brings a {address.kind} with such a version: git pushes code, `fuseml runnable register` runnables"
            )
        found = store.describe(address)
        about = found.about
        given = {
            "address": str(address),
            "format": about.format or None,
            "framework": {"name": about.framework, "version": about.framework_version} if about.framework else None,
            "digest": found.digest or None,
            "size": found.size,
            "location": store.locate(address).uri or None,
            "metrics": descriptor.metrics_of(about.metrics),
            "metadata": dict(about.metadata),
        }
        facts = document.validate(descriptor.Descriptor, given, kind="description")
    except errors.NotFoundError:
        return None
    except errors.PermanentError as error:
        # The versions behind it do not wait for it.
        _log.warning("%s of %s is not recorded: %s", str(address)[: artifact.LONGEST], account.store.name, error.message)
        return None
    return _New(address, facts, found.created, about.producer)


def _record(deps: Deps, account: _Account, answer: _Answer, tick: events.Event) -> None:
    with deps.store.write() as session:
        if not followed.is_registered(session, account.store):
            return
        projects = set(codesets.project_names(session))
        payloads: list[events.Payload] = []
        since = times.unix(account.store.registered) * 1000
        for new in answer.versions:
            if new.address.project in projects and not _is_of_run(session, new.producer):
                recorded = _record_version(session, account.store, new)
                payloads += recorded if new.created > since else []
        if answer.position is not None:
            # Another sweep may have stored a later one: its versions are recorded, too.
            watermarks.put(session, account.job, answer.position, account.position)
        enqueued = cloudevents.enqueue(session, *payloads, cause=(tick.source, tick.id))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _is_of_run(session: sqlmodel.Session, producer: str) -> bool:
    """Whether a step of a run has committed it (`artifactstores.collect`)."""
    run, _ = identity.execution_of(producer.partition("/")[0])
    return run.isalnum() and runs.find(session, run) is not None


def _record_version(session: sqlmodel.Session, store: followed.Store, new: _New) -> Sequence[events.Payload]:
    facts = new.facts
    if artifact_records.is_gone(session, new.address, facts.digest):
        return []
    framework = (facts.framework.name, facts.framework.version) if facts.framework else ("", "")
    details = {**facts.metadata, "uri": facts.location, stores.STORE_FACT: store.name, "metrics": facts.metrics}
    return artifact_records.record(
        session, new.address, None, details, format=facts.format, digest=facts.digest, size=facts.size, framework=framework
    )
