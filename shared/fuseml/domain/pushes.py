"""Pushes as moves of a ref, known from deliveries that repeat, overtake one another or get lost
(infra/decisions/0013-identity-of-pushes-and-runs.md).

A ref walks from value to value; None is a ref that does not exist. Each value is left as often as it is reached, except the present one.
This balance separates a repeated delivery from a ref that returned to an earlier commit.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["push", "delete", "found", "gone", "left", "passed", "start", "copy"]
"""`push`, `delete`: delivered moves. `found`: a value that the sweep saw, whose push was not delivered; `gone`: the sweep saw no ref. `left`:
the departure from a value that the sweep found left. `passed`: a value that a delivered push left, though its arrival is unknown. `start`: the
value at the beginning of the known history. `copy`: another delivery of a push that is known.
"""

MAX_PATHS = 10_000
MAX_PATHS_BYTES = 512 << 10
"""Bounds of a list of changed files, in UTF-8 bytes: an event with it stays below the 4 MiB that brokers accept."""
MAX_TEXT = 8 << 10
"""Characters of a commit message in an event."""


@dataclass(frozen=True, slots=True)
class Move:
    """A known move of one ref. `number` identifies a stored one, `event` its event (the identity).

    `digest` identifies the body of its delivery; empty for a host whose record has each push once.
    """

    kind: Kind
    before: str | None = None
    commit: str | None = None
    delivery: str = ""
    digest: str = ""
    event: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The effect of a delivered move.

    `outcome`: `new` is published; `repeated` and `copy` are not; `found` was published when the sweep saw it. `remove` and `add` change the
    known moves. `is_current`: as far as is known, the ref has not moved on since.
    """

    outcome: Literal["new", "repeated", "found", "copy"]
    is_current: bool = False
    remove: tuple[Move, ...] = ()
    add: tuple[Move, ...] = ()


def balance(moves: Iterable[Move], value: str | None) -> int:
    """Arrivals at a value minus departures from it."""
    return _balances(moves)[value]


def _balances(moves: Iterable[Move]) -> collections.Counter[str | None]:
    """The balance of each value, in one pass: a ref may have thousands of moves."""
    balances: collections.Counter[str | None] = collections.Counter()
    for move in moves:
        arrival, departure = _arrival(move), _departure(move)
        if arrival:
            balances[arrival[0]] += 1
        if departure:
            balances[departure[0]] -= 1
    return balances


def _arrival(move: Move) -> tuple[str | None] | None:
    return (move.commit,) if move.kind in ("push", "delete", "found", "gone", "passed", "start") else None


def _departure(move: Move) -> tuple[str | None] | None:
    return (move.before,) if move.kind in ("push", "delete", "left") else None


def decide(near: Sequence[Move], move: Move, every: Callable[[], Sequence[Move]]) -> Decision:
    """The effect of a delivered `move` (a `push` or `delete`). `near` are the known moves that touch its values, `every` returns all of the
    ref.
    """
    same = [
        known for known in near if known.kind in ("push", "delete", "copy") and (known.before, known.commit) == (move.before, move.commit)
    ]
    if any(known.delivery == move.delivery for known in same):
        return Decision("repeated")
    if move.digest and any(known.digest == move.digest for known in same) and not _may_be_at(near, move.before):
        # The body of one push reaches FuseML under several ids where a host has two webhooks, or an operator replays a delivery.
        return Decision("copy", add=(Move("copy", move.before, move.commit, move.delivery, move.digest),))
    remove: list[Move] = []
    add = [move]
    left = next((known for known in near if known.kind == "left" and known.before == move.before), None)
    if left:
        remove.append(left)
    elif move.before is not None and balance(near, move.before) <= 0:
        add.append(Move("passed", commit=move.before))
    found = _first(near, "found", move.commit) if move.commit else None
    passed = _first(near, "passed", move.commit) if move.commit else None
    if found:
        remove.append(found)
        add[0] = replace(move, event=found.event)
    elif passed and len(_ends([*every(), *add])) > 1:
        # The ref is known to be elsewhere: this delivery is late, and the arrival at its commit is the unknown one.
        remove.append(passed)
    after = [*(known for known in near if known not in remove), *add]
    return Decision(
        "found" if found else "new",
        is_current=_may_be_at(after, move.commit),
        remove=tuple(remove),
        add=tuple(add),
    )


def _ends(moves: Sequence[Move]) -> set[str]:
    """The values at which the moves may end; more than one where moves between them are unknown."""
    return set(compacted(moves))


def end(moves: Sequence[Move]) -> Move | None:
    """The newest known move to a value at which the moves may end; None where the ref may be gone."""
    ends = _ends(moves)
    return next((move for move in reversed(moves) if (value := _arrival(move)) is not None and value[0] in ends), None)


def _first(moves: Iterable[Move], kind: Kind, commit: str | None) -> Move | None:
    return next((move for move in moves if move.kind == kind and move.commit == commit), None)


def _may_be_at(moves: Iterable[Move], value: str | None) -> bool:
    # Before its first push, a ref is at None without an arrival.
    return balance(moves, value) + (value is None) > 0


def observe(moves: Sequence[Move], head: str | None) -> tuple[Move, ...]:
    """The moves that the sweep learns when it sees the ref at `head`; none where that is a value at which the known moves may end."""
    if head and balance(moves, head) > 0:
        return ()
    left = (Move("left", before=value) for value in compacted(moves))
    return (*left, Move("found", commit=head) if head else Move("gone"))


def recorded(moves: Sequence[Move], before: str | None, commit: str) -> tuple[Move, ...]:
    """The moves that the sweep learns from a record without ids of deliveries; none where such a move is known, delivered or found.

    The record of a new ref may name a commit before its own instead of none (Gitea, infra/platform-facts.md 5.4). It is a move from there only
    if the ref may be there.
    """
    origins = {before} if before and balance(moves, before) > 0 else {before, None}
    for move in moves:
        is_delivered = move.kind in ("push", "copy") and move.commit == commit and move.before in origins
        if is_delivered or (move.kind in ("found", "start") and move.commit == commit):
            return ()
    left = (Move("left", before=before),) if before and balance(moves, before) > 0 else ()
    return (*left, Move("found", commit=commit))


def compacted(old: Sequence[Move]) -> list[str]:
    """The values at which the old part of a ref's moves may end: it is forgotten, and they become its start."""
    return sorted(value for value in _balances(old).elements() if value is not None)


def bounded(paths: Sequence[str] | None) -> list[str] | None:
    """The paths, or None (unknown) where there are too many for an event."""
    if paths is None or len(paths) > MAX_PATHS or sum(len(path.encode("utf-8", "replace")) for path in paths) > MAX_PATHS_BYTES:
        return None
    return list(paths)
