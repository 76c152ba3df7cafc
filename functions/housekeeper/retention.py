"""Retention of artifacts: the policies are applied by themselves, and the contents of what they have removed follow.

First the descriptor goes, in one transaction with its event and the order to delete the contents (usecases.retention). Then the contents go,
after a pause for readers, in steps that a later sweep repeats after a crash. Contents go only from stores that FuseML writes to; a store that
others fill keeps them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml import artifactstores
from fuseml.artifactstores import choice, reach
from fuseml.domain import artifact, errors, events, plans
from fuseml.domain.plans import transfers
from fuseml.domain.registry import selector
from fuseml.runtime import clock, cloudevents
from fuseml.store import artifacts, executions, removals, run_locks, runs
from fuseml.store import retention as policies
from fuseml.usecases import retention, stores

_log = logging.getLogger("fuseml.housekeeper")

BY = "retention"
"""The author of the deletions."""

# Bounds of one tick; the next one continues.
_SECONDS = 5.0
_MOST = 100
_PAGE = 500

_DAY = 86_400.0
LEASE = 600.0
"""Seconds for which one process alone deletes the contents of an artifact, also after a temporary failure."""

_WRITTEN_BY_FUSEML = frozenset({"write", "delete"})
Item = TypeVar("Item")


def prune_artifacts(deps: Deps, _tick: events.Event) -> None:
    """Remove the artifacts that no policy keeps. Each policy begins some time after it was set, so that it can be corrected before."""
    until = time.monotonic() + _SECONDS
    with deps.store.read() as session:
        waiting = policies.policies(session)
    for policy in waiting:
        if policy.position or max(policy.walked, policy.updated) <= clock.ago(deps.retention_interval):
            _walk(deps, policy, until)


def _walk(deps: Deps, policy: policies.RetentionPolicy, until: float) -> None:
    walk, position = policies.Walk(policy.project, policy.kind, policy.updated), policy.position
    while time.monotonic() < until:
        with deps.store.read() as session:
            rows = retention.candidates(session, policy, position, _PAGE)
            fates = retention.Judge(session, clock.now()).fates(rows) if rows else []
        position = rows[-1].address if rows else ""
        for batch in retention.batches([fate.address for fate in fates if fate.goes]):
            with deps.store.write() as session:
                if not policies.is_current(session, walk):
                    return
                deleted: Sequence[events.ArtifactDeleted]
                decided, deleted = retention.prune(session, batch, BY, deps.contents_grace)
                enqueued = cloudevents.enqueue(session, *deleted)
            cloudevents.relay(deps.store, deps.publisher, enqueued)
            _log.info("retention removed %d artifacts of %s://%s", sum(fate.goes for fate in decided), policy.kind, policy.project)
        with deps.store.write() as session:
            policies.move(session, walk, position, clock.now())
        if not position:
            return


def delete_contents(deps: Deps, _tick: events.Event) -> None:
    """Delete the contents of removed artifacts. One that cannot be deleted now is retried; the others go on."""
    with deps.store.read() as session:
        waiting = removals.due(session, clock.now(), _MOST)
    _each(waiting, lambda seen: _delete(deps, seen), lambda seen, due, problem: _postpone(deps, seen, due, problem))


def _delete(deps: Deps, seen: removals.ArtifactRemoval) -> None:
    address = artifact.Address.parse(seen.address)
    store = artifactstores.connect(_connection(deps, lambda session: _holder(deps, session, address, seen)))
    if seen.taken is None and not (store.capabilities >= _WRITTEN_BY_FUSEML and _holds(store, address)):
        with deps.store.write() as session:
            removals.drop(session, seen.address)
        return
    taken = clock.now()
    with deps.store.write() as session:
        if not removals.take(session, seen, taken, clock.ahead(LEASE)):
            return
    store.delete(address)
    with deps.store.write() as session:
        removals.finish(session, seen, taken, clock.now())
    # Without effect on the record: files that stay now are leftovers.
    if isinstance(store, artifactstores.Discards):
        store.discard_name(address.kind, address.project, address.name)


def _holds(store: artifactstores.ArtifactStore, address: artifact.Address) -> bool:
    try:
        store.describe(address)
    except (errors.NotFoundError, errors.InvalidError):
        # Registered without its contents, or deleted with the store's own means.
        return False
    return True


def _holder(deps: Deps, session: sqlmodel.Session, address: artifact.Address, seen: removals.ArtifactRemoval) -> artifactstores.Connection:
    row = artifacts.Artifact(
        address=seen.address,
        kind=address.kind,
        project=address.project,
        name=address.name,
        version=address.version,
        format=seen.facts["format"],
        details=seen.facts["details"],
        created="",
    )
    binding = _stores(deps, session, address.project).holder(row, opens=False)
    return choice.connection(session, binding, deps.keyring.unseal, address.project)


def _stores(deps: Deps, session: sqlmodel.Session, project: str) -> stores.ProjectStores:
    return stores.ProjectStores(session, selector.Context(project=project, user="", zone=deps.zone), deps.zone, artifactstores.facts)


def _connection(deps: Deps, connect: Callable[[sqlmodel.Session], artifactstores.Connection]) -> artifactstores.Connection:
    with deps.store.read() as session:
        connection = connect(session)
    reach.check(connection)
    return connection


def _postpone(deps: Deps, seen: removals.ArtifactRemoval, due: str, problem: str) -> None:
    with deps.store.write() as session:
        removals.postpone(session, seen.address, due, problem)


def delete_anonymous(deps: Deps, _tick: events.Event) -> None:
    """Delete the anonymous artifacts of the runs that ended long enough ago. Those that an unfinished run uses again stay."""
    ended: list[tuple[run_locks.AnonymousArtifact, runs.Run]] = []
    with deps.store.read() as session:
        now = clock.now()
        for policy in policies.policies(session):
            before = clock.ago(policies.rule(policy).anonymous_days * _DAY)
            ended += run_locks.ended_anonymous(session, policy.project, policy.kind, before, now, _MOST - len(ended))
    if not ended:
        return
    with deps.store.write() as session:
        unfinished = run_locks.Unfinished(session)
        used = {id(row) for row, run in ended if unfinished.below(f"{_prefix(row, run)}/")}
        for row, _ in ended:
            if id(row) in used:
                run_locks.postpone_anonymous(session, row, clock.ahead(_DAY))
        # From now on, no run reuses the steps that made them.
        executions.forget(session, [_prefix(row, run) for row, run in ended if id(row) not in used])
    going = [(row, run) for row, run in ended if id(row) not in used]
    _each(going, lambda item: _delete_anonymous(deps, *item), lambda item, due, _: _postpone_anonymous(deps, item[0], due))


def _prefix(row: run_locks.AnonymousArtifact, run: runs.Run) -> str:
    return f"{row.kind}://{row.project}/{transfers.anonymous_name(run.id, row.step, row.output)}"


def _delete_anonymous(deps: Deps, row: run_locks.AnonymousArtifact, run: runs.Run) -> None:
    plan = plans.Plan.model_validate(run.plan)
    [part] = [collect for collect in plan.step(row.step).collects if collect.output == row.output]
    store = artifactstores.connect(_connection(deps, lambda session: choice.planned(session, part.store, deps.keyring.unseal, row.project)))
    name = transfers.anonymous_name(run.id, row.step, row.output)
    while "delete" in store.capabilities and (page := store.versions(row.kind, row.project, name).versions):
        for version in page:
            store.delete(version.address)
    if isinstance(store, artifactstores.Discards):
        store.discard_name(row.kind, row.project, name)
    with deps.store.write() as session:
        run_locks.forget_anonymous(session, row)


def _postpone_anonymous(deps: Deps, row: run_locks.AnonymousArtifact, due: str) -> None:
    with deps.store.write() as session:
        run_locks.postpone_anonymous(session, row, due)


def discard_leftovers(deps: Deps, _tick: events.Event) -> None:
    """Delete what killed uploads have left in the stores of the projects with a policy, once a day."""
    with deps.store.read() as session:
        waiting = [row for row in policies.policies(session) if row.leftovers or row.swept <= clock.ago(deps.leftovers_interval)]
    _each(waiting, lambda policy: _discard(deps, policy), lambda policy, _due, _problem: _moved(deps, policy, ""))


def _discard(deps: Deps, policy: policies.RetentionPolicy) -> None:
    store, position = _own_store(deps, policy), ""
    if store is not None and isinstance(store, artifactstores.Discards):
        position = store.discard_some(policy.kind, policy.project, policy.leftovers, seconds=_SECONDS)
    _moved(deps, policy, position)


def _own_store(deps: Deps, policy: policies.RetentionPolicy) -> artifactstores.ArtifactStore | None:
    """The store for new artifacts of the project and kind; None without one: then there are no leftovers."""

    def own(session: sqlmodel.Session) -> artifactstores.Connection:
        binding = _stores(deps, session, policy.project).writer(policy.kind, None)
        return choice.connection(session, binding, deps.keyring.unseal, policy.project)

    try:
        return artifactstores.connect(_connection(deps, own))
    except errors.UnresolvedError:
        return None


def _moved(deps: Deps, policy: policies.RetentionPolicy, position: str) -> None:
    with deps.store.write() as session:
        policies.move_leftovers(session, policies.Walk(policy.project, policy.kind, policy.updated), position, clock.now())


def _each(items: Sequence[Item], work: Callable[[Item], None], postpone: Callable[[Item, str, str], None]) -> None:
    """Do the work for each, for some seconds. Postpones one that fails, and raises TemporaryError for the first of them at the end."""
    until, failures = time.monotonic() + _SECONDS, list[str]()
    for item in items:
        if time.monotonic() > until:
            break
        try:
            work(item)
        except (errors.TemporaryError, errors.PermanentError) as error:
            seconds = LEASE if isinstance(error, errors.TemporaryError) else _DAY
            postpone(item, clock.ahead(seconds), error.message)
            failures.append(error.message)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise errors.TemporaryError(f"contents of artifacts could not be deleted and are tried again later: {failures[0]}{more}")
