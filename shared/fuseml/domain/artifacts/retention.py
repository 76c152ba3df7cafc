"""Retention: the reason for which an artifact is kept, or that it goes.

A policy belongs to a kind of a project; without one nothing goes. An artifact is kept for a reason of its own (`protection`), or because it is
in the lock of a run that made an artifact which is kept (`decide`): the run that made a model can be repeated as long as the model can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors, times

MOST = 10_000
"""The largest number of a policy."""

ANONYMOUS_DAYS = 7
"""Days after the end of their run for which anonymous artifacts are kept under a policy without days."""

_DAY = 86_400
_SHOWN = 3

Cause = Literal["policy", "tag", "application", "run", "ref", "runnable", "newest", "days", "lock"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Keep the newest versions of each name, and those that were recorded within the last days. One of both is set at least."""

    newest: int | None = None
    days: int | None = None

    @property
    def anonymous_days(self) -> int:
        """Days after the end of their run for which anonymous artifacts are kept."""
        return ANONYMOUS_DAYS if self.days is None else self.days


def check(newest: int | None, days: int | None) -> Policy:
    """The policy. Raises InvalidError for one without a number, and for a number that is out of range."""
    if newest is None and days is None:
        raise errors.InvalidError(
            "a policy keeps the newest versions (newest), the versions of the last days (days), or both; give one at least"
        )
    for name, number in (("newest", newest), ("days", days)):
        if number is not None and not 1 <= number <= MOST:
            raise errors.InvalidError(f"{name} is {number}; it is a number from 1 to {MOST}")
    return Policy(newest, days)


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason for which an artifact is kept: its cause, and a text for people."""

    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one artifact that count.

    `newer` is the number of newer versions of its name. `runs` are the unfinished runs that name or made it, `refs` the git refs at it,
    `applications` those that serve it.
    """

    kind: str
    created: str
    newer: int
    tags: Collection[str] = ()
    applications: Collection[str] = ()
    runs: Collection[str] = ()
    refs: Collection[str] = ()
    is_runnable: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """The plan of `run`, or its lineage, names an artifact, and the run made `product`. Without a run, the product was registered so."""

    run: str
    product: str


def protection(policy: Policy | None, facts: Facts, now: str) -> Reason | None:
    """The reason of its own for which an artifact is kept; None without one."""
    if policy is None:
        return Reason("policy", "no policy for its kind and project")
    if facts.tags:
        return Reason("tag", f"tagged {_listed(facts.tags)}")
    if facts.applications:
        return Reason("application", f"served by {_listed(facts.applications)}")
    if facts.runs:
        return Reason("run", f"used by the unfinished {_listed(facts.runs)}")
    if facts.refs:
        return Reason("ref", f"{_listed(facts.refs)} is at it")
    if facts.is_runnable:
        return Reason("runnable", "a registered runnable; `fuseml runnable delete` deletes it")
    # The newest commit of a codeset is its present state, however old it is.
    newest = max(policy.newest or 0, 1 if facts.kind == "code" else 0)
    if facts.newer < newest:
        return Reason("newest", "the newest of its name" if newest == 1 else f"among the newest {newest} of its name")
    if policy.days is not None and facts.created >= oldest(policy.days, now):
        return Reason("days", f"younger than {policy.days} day{'s' if policy.days > 1 else ''}")
    return None


def oldest(days: int, now: str) -> str:
    """The moment that many days before `now`."""
    return times.shift(now, -days * _DAY)


def decide(own: Mapping[str, Reason | None], locks: Mapping[str, Collection[Lock]]) -> dict[str, Reason | None]:
    """Address -> the reason for which it is kept, None if it goes.

    `own` holds the protection of each artifact, `locks` the locks that name it. A product that `own` does not hold is recorded no more, and
    keeps nothing. The result does not depend on the order of anything.
    """
    named: dict[str, list[str]] = {}
    for address, of_address in locks.items():
        for lock in of_address:
            named.setdefault(lock.product, []).append(address)
    kept = {address for address, reason in own.items() if reason is not None}
    pending = list(kept)
    while pending:
        for address in named.get(pending.pop(), ()):
            if address in own and address not in kept:
                kept.add(address)
                pending.append(address)
    return {address: _reason(address, reason, locks, kept) for address, reason in own.items()}


def _reason(address: str, own: Reason | None, locks: Mapping[str, Collection[Lock]], kept: Collection[str]) -> Reason | None:
    if own is not None or address not in kept:
        return own
    # The first by name, whichever was found first.
    lock = min((lock for lock in locks[address] if lock.product in kept), key=lambda lock: (lock.product, lock.run))
    return Reason("lock", f"in the lock of {lock.run}, which made {lock.product}" if lock.run else f"a source of {lock.product}")


def _listed(names: Collection[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
