"""Retention of artifacts: the fate of each under the policies, and the removal of those that go.

A fate is decided from one state of the database. The removal decides again in its own transaction, so that it never takes what was tagged,
served, or needed by a run meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import artifact, errors, events
from fuseml.domain.artifacts import retention as rules
from fuseml.runtime import clock
from fuseml.store import applications, artifact_copies, artifact_names, artifacts, executions, removals, retention, run_locks

REASON = "retention"
"""The reason of the deletion in the event, and its name in the history."""

CONTENTS_GRACE = 3600.0
"""Seconds between the removal of an artifact and that of its contents, which may be in use."""

BATCH = 50
"""Artifacts of one transaction."""

_PAGE = 200
_ROUNDS = 20
_MOST_VISITED = 20_000


@dataclass(frozen=True, slots=True)
class Fate:
    """An artifact, and the reason for which it is kept; None if it goes. `row` is None at an address without artifact."""

    address: str
    reason: rules.Reason | None
    row: artifacts.Artifact | None = None

    @property
    def goes(self) -> bool:
        return self.row is not None and self.reason is None


class Judge:
    """Decides fates by one state of the database, and by a policy in the place of the stored one, if any is given."""

    def __init__(self, session: sqlmodel.Session, now: str, instead: retention.RetentionPolicy | None = None) -> None:
        self._session, self._now = session, now
        rows = [*retention.policies(session), *([instead] if instead else [])]
        self._policies = {f"{row.kind}://{row.project}": retention.rule(row) for row in rows}
        self._counts = {key: _counted(key, policy) for key, policy in self._policies.items()}
        self._unfinished = run_locks.Unfinished(session)
        self._served = applications.served_models(session)

    def fates(self, rows: Sequence[artifacts.Artifact]) -> list[Fate]:
        """The fates of some artifacts, in their order."""
        own: dict[str, rules.Reason | None] = {}
        locks: dict[str, set[rules.Lock]] = {}
        pending: Sequence[artifacts.Artifact] = rows
        while pending:
            own.update(self._protections(pending))
            found = run_locks.locks_of(self._session, [row.address for row in pending if own[row.address] is None])
            locks.update(found)
            products = sorted({lock.product for of_address in found.values() for lock in of_address} - own.keys())
            if len(own) + len(products) > _MOST_VISITED:
                # Not an error: one artifact with very many products must not stop the others.
                own.update(dict.fromkeys(products, _UNCOMPARED))
                products = []
            pending = artifacts.of_addresses(self._session, products)
        decided = rules.decide(own, locks)
        return [Fate(row.address, decided[row.address], row) for row in rows]

    def _protections(self, rows: Sequence[artifacts.Artifact]) -> dict[str, rules.Reason | None]:
        governed = [row for row in rows if f"{row.kind}://{row.project}" in self._policies]
        addresses = [row.address for row in governed]
        tags, refs = retention.tags(self._session, addresses), retention.refs(self._session, governed)
        runnables = retention.registered_runnables(self._session, [row.address for row in governed if row.kind == "runnable"])
        newer = retention.newer(self._session, governed, self._counts)
        found: dict[str, rules.Reason | None] = {row.address: rules.protection(None, _UNKNOWN, self._now) for row in rows}
        for row in governed:
            facts = rules.Facts(
                kind=row.kind,
                created=row.created,
                newer=newer[row.address],
                tags=tags.get(row.address, ()),
                applications=self._applications(row),
                runs=self._unfinished.users.get(row.address, ()),
                refs=refs.get(row.address, ()),
                is_runnable=row.address in runnables,
            )
            found[row.address] = rules.protection(self._policies[f"{row.kind}://{row.project}"], facts, self._now)
        return found

    def _applications(self, row: artifacts.Artifact) -> list[str]:
        if row.kind != "model":
            return []
        texts = {row.address, f"models:/{row.name}/{row.version}", row.location or row.address}
        return sorted({name for text in texts for name, project in self._served.get(text, ()) if project in (None, row.project)})


_UNCOMPARED = rules.Reason("lock", f"one of more than {_MOST_VISITED} products, which were not compared")
_UNKNOWN = rules.Facts(kind="", created="", newer=0)


def _counted(key: str, policy: rules.Policy) -> int:
    return max(policy.newest or 0, 1 if key.startswith("code://") else 0)


@dataclass(frozen=True, slots=True)
class FatePage:
    """Fates by kind, project and address, and the cursor of the next page, if any."""

    fates: Sequence[Fate]
    next_cursor: str | None = None


def page(
    session: sqlmodel.Session,
    limit: int,
    cursor: str | None,
    project: str,
    kind: str,
    *,
    kept: bool,
    instead: rules.Policy | None = None,
) -> FatePage:
    """The artifacts under the policies that go; with `kept` all others under a policy, too. A page may be short although there are more.

    `instead` is a policy for the kind and project that is not set.

    Raises InvalidError for a cursor of another list.
    """
    given = retention.unset(project, kind, instead) if instead else None
    judge, found, rounds, after = Judge(session, clock.now(), given), list[Fate](), 0, _position(cursor)
    for policy in [given] if given else retention.policies(session, project, kind):
        position = ""
        if after is not None:
            if (policy.kind, policy.project) < (after.kind, after.project):
                continue
            position = str(after) if (policy.kind, policy.project) == (after.kind, after.project) else ""
        while rows := candidates(session, policy, position, min(limit - len(found), _PAGE), kept=kept):
            found += (fate for fate in judge.fates(rows) if kept or fate.goes)
            position, rounds = rows[-1].address, rounds + 1
            if len(found) >= limit or rounds >= _ROUNDS:
                return FatePage(found, position)
    return FatePage(found)


def _position(cursor: str | None) -> artifact.Address | None:
    try:
        return artifact.Address.parse(cursor) if cursor is not None else None
    except errors.InvalidError:
        raise errors.InvalidError("the cursor is not one of this list; begin again without it") from None


def candidates(
    session: sqlmodel.Session, policy: retention.RetentionPolicy, after: str, limit: int, *, kept: bool = False
) -> Sequence[artifacts.Artifact]:
    """The next artifacts under a policy; without `kept`, only those that neither a tag nor the days keep."""
    now = clock.now()
    before = None if kept else rules.oldest(policy.days, now) if policy.days is not None else now
    return retention.under(session, policy, after, limit, before=before)


def prune(session: sqlmodel.Session, addresses: Sequence[str], by: str, grace: float) -> tuple[list[Fate], list[events.ArtifactDeleted]]:
    """Remove those of the artifacts that go now, by this transaction. Returns the fate of each, and the events to publish.

    Their contents go `grace` seconds later (store.removals).
    """
    now, rows = clock.now(), {row.address: row for row in artifacts.of_addresses(session, addresses)}
    fates = {fate.address: fate for fate in Judge(session, now).fates([rows[address] for address in sorted(rows)])}
    going = [fate.row for fate in fates.values() if fate.row is not None and fate.goes]
    copies = [address for row in going for address in artifact_copies.discard(session, row.address, clock.ahead(grace))]
    payloads = [_removed(session, row, by, now, grace) for row in going]
    executions.forget(session, [*copies, *(text for row in going for text in _texts(row))])
    return [fates.get(address, Fate(address, None)) for address in dict.fromkeys(addresses)], payloads


def _removed(session: sqlmodel.Session, row: artifacts.Artifact, by: str, now: str, grace: float) -> events.ArtifactDeleted:
    noted = artifact_names.note_deletion(session, row, by, now, reason=REASON)
    if not row.external and row.kind != "code":
        removals.add(session, row.address, removals.facts_of(row), clock.ahead(grace))
    deleted = events.ArtifactDeleted(address=row.address, by=by, change=noted.sequence or 0, digest=row.digest, reason=REASON)
    artifacts.delete(session, row)
    return deleted


def _texts(row: artifacts.Artifact) -> Iterator[str]:
    """The texts of an artifact in the outputs of a step, whose later repetition must make it again."""
    yield row.address
    if row.kind == "model":
        yield f"models:/{row.name}/{row.version}"


def batches(addresses: Sequence[str]) -> Iterator[Sequence[str]]:
    """The addresses, in as many as one transaction removes."""
    return (addresses[start : start + BATCH] for start in range(0, len(addresses), BATCH))
