"""Pushes as moves of a ref: deliveries that repeat, overtake one another or get lost, and sweeps in between."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.domain import pushes
from fuseml.domain.pushes import Move


@dataclass
class Known:
    """What FuseML knows of one ref, by the rules of the domain; `published` are the commits of its push events."""

    moves: list[Move] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    current: str | None = None

    def deliver(self, before: str | None, commit: str | None, delivery: str, digest: str) -> None:
        move = Move("push" if commit else "delete", before, commit, delivery, digest)
        ends = (before, commit)
        near = [known for known in self.moves if known.before in ends or known.commit in ends]
        decision = pushes.decide(near, move, lambda: self.moves)
        self.outcomes.append(decision.outcome)
        for known in decision.remove:
            self.moves.remove(known)
        self.add(decision.add)
        if decision.outcome == "new" and commit:
            self.published.append(commit)
        if decision.is_current:
            self.current = commit

    def sweep(self, head: str | None) -> None:
        if head == self.current:
            return
        learned = pushes.observe(self.moves, head)
        self.add(learned)
        self.current = head
        self.published += [move.commit or "" for move in learned if move.kind == "found"]

    def add(self, moves: tuple[Move, ...]) -> None:
        for move in moves:
            self.moves.append(replace(move, number=len(self.moves) + 1000 * len(self.outcomes) + 1))


COMMITS = ["a", "b", "c"]


@st.composite
def histories(draw: st.DrawFn) -> list[str | None]:
    """The values of a ref, each another than the one before; it begins without the ref."""
    values: list[str | None] = [None]
    for _ in range(draw(st.integers(1, 7))):
        values.append(draw(st.sampled_from([value for value in [*COMMITS, None] if value != values[-1]])))
    return values


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[str | None], list[tuple[str, int]], bool]:
    """A history, and what FuseML sees of it: ("deliver", number of the move) and ("sweep", number of moves so far), never before their time."""
    values = draw(histories())
    slots: list[tuple[float, str, int]] = []
    lossless = draw(st.booleans())
    for number in range(1, len(values)):
        copies = draw(st.integers(1 if lossless else 0, 3))
        slots += [(number + draw(st.floats(0, 8)), "deliver", number) for _ in range(copies)]
    for _ in range(draw(st.integers(0, 4))):
        moment = draw(st.floats(1, len(values) + 8))
        slots.append((moment, "sweep", min(int(moment), len(values) - 1)))
    slots.sort()
    return values, [(kind, number) for _, kind, number in slots] + [("sweep", len(values) - 1)], lossless


@given(schedules())
def test_each_push_that_is_seen_becomes_one_event_and_none_two(schedule: tuple[list[str | None], list[tuple[str, int]], bool]) -> None:
    values, seen, lossless = schedule
    known, delivered = Known(), set[int]()
    for kind, number in seen:
        if kind == "sweep":
            known.sweep(values[number])
        else:
            # Each delivery has a body of its own: hosts put the time of the last change into it.
            known.deliver(values[number - 1], values[number], f"delivery-{number}", f"body-{number}")
            delivered.add(number)
    pushed = Counter(value for value in values[1:] if value)
    published = Counter(known.published)
    arrived = Counter(values[number] for number in delivered if values[number])
    assert published <= pushed, "a push became two events"
    assert arrived <= published, "a delivered push became no event"
    assert values[-1] is None or published[values[-1]] >= 1, "the present commit became no event"
    if lossless:
        assert published == pushed
    assert known.current == values[-1]


@given(histories())
def test_equal_bodies_in_order_are_told_apart_by_the_way_between_them(values: list[str | None]) -> None:
    known = Known()
    for number in range(1, len(values)):
        before, after = values[number - 1], values[number]
        for copy in range(2):
            # A host with two webhooks delivers twice: other ids, equal bodies.
            known.deliver(before, after, f"delivery-{number}-{copy}", f"{before}-{after}")
    assert Counter(known.published) == Counter(value for value in values[1:] if value)


A, B = "a" * 40, "b" * 40


ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


# With equal bodies, an unknown first commit and the way back first, two pushes explain the three deliveries as well.
@pytest.mark.parametrize(("order", "equal"), [*((order, "") for order in ORDERS), *((order, "equal") for order in ORDERS if order[0] != 1)])
def test_a_way_and_back_and_again_is_three_pushes_in_any_order(order: tuple[int, ...], equal: str) -> None:
    moves = [(A, B, "1"), (B, A, "2"), (A, B, "3")]
    known = Known()
    for number in order:
        for _ in range(5):
            before, commit, delivery = moves[number]
            known.deliver(before, commit, delivery, f"{before}-{commit}{equal or delivery}")
    known.sweep(B)
    assert Counter(known.published) == {B: 2, A: 1}


def test_a_sweep_before_its_webhook_is_one_push() -> None:
    known = Known()
    known.sweep(A)
    known.deliver(None, A, "1", "x")
    known.deliver(None, A, "1", "x")
    assert (known.published, known.outcomes) == ([A], ["found", "repeated"])


def test_a_deleted_and_pushed_ref_is_a_new_push() -> None:
    known = Known()
    for before, commit, delivery in [(None, A, "1"), (A, None, "2"), (None, A, "3")]:
        known.deliver(before, commit, delivery, "same body")
    assert known.published == [A, A]


def test_a_replayed_delivery_is_no_push() -> None:
    known = Known()
    known.deliver(None, A, "1", "first")
    known.deliver(A, B, "2", "second")
    known.deliver(A, B, "replayed", "second")
    assert (known.published, known.outcomes[-1]) == ([A, B], "copy")


@given(schedules(), st.data())
@example(([None, "a"], [("deliver", 1), ("sweep", 1)], True), None)
def test_forgetting_the_old_moves_keeps_the_end(
    schedule: tuple[list[str | None], list[tuple[str, int]], bool], data: st.DataObject | None
) -> None:
    values = schedule[0]
    known = Known()
    for number in range(1, len(values)):
        known.deliver(values[number - 1], values[number], str(number), str(number))
    cut = data.draw(st.integers(0, len(known.moves))) if data else 1
    old, rest = known.moves[:cut], known.moves[cut:]
    kept = [*(Move("start", commit=end) for end in pushes.compacted(old)), *rest]
    for value in COMMITS:
        assert pushes.balance(kept, value) == pushes.balance(known.moves, value)


@pytest.mark.parametrize(
    ("paths", "is_known"),
    [
        (None, False),
        ([], True),
        (["x"] * pushes.MAX_PATHS, True),
        (["x"] * (pushes.MAX_PATHS + 1), False),
        (["ä" * (pushes.MAX_PATHS_BYTES // 2)], True),
        (["ä" * (pushes.MAX_PATHS_BYTES // 2 + 1)], False),
    ],
)
def test_long_lists_of_paths_are_unknown(paths: list[str] | None, is_known: bool) -> None:
    assert (pushes.bounded(paths) is not None) == is_known


CREATED, MOVED, GONE = Move("push", None, "c", "1"), Move("push", "c", "d", "2"), Move("delete", "d", None, "3")


@pytest.mark.parametrize(
    ("moves", "before", "commit", "learned"),
    [
        # Gitea's record of a new branch names the commit that it was made from.
        ([CREATED], "main's", "c", []),
        ([CREATED], None, "c", []),
        ([CREATED, MOVED], "main's", "c", []),
        # A branch that was deleted and made again from its last commit.
        ([CREATED, MOVED, GONE, replace(CREATED, delivery="4")], "d", "c", []),
        # A force push back to the first commit is another move.
        ([CREATED, MOVED], "d", "c", [Move("left", before="d"), Move("found", commit="c")]),
        ([CREATED], "c", "d", [Move("left", before="c"), Move("found", commit="d")]),
        ([], "main's", "c", [Move("found", commit="c")]),
        ([Move("push", "x", "c", "1")], "main's", "c", [Move("found", commit="c")]),
    ],
)
def test_the_record_of_a_new_ref_is_the_delivery_that_made_it(
    moves: list[Move], before: str | None, commit: str, learned: list[Move]
) -> None:
    assert list(pushes.recorded(moves, before, commit)) == learned


class Value(str):
    """A commit that counts the comparisons and lookups of all commits."""

    looks = 0

    def __eq__(self, other: object) -> bool:
        Value.looks += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        Value.looks += 1
        return str.__hash__(self)


@pytest.mark.parametrize("scattered", [False, True], ids=["a walk", "moves between unknown commits"])
def test_the_work_for_a_ref_grows_linearly_with_its_moves(scattered: bool) -> None:
    def work(count: int) -> int:
        commits = [Value(f"{number:05}") for number in range(2 * count + 2)]
        step = 2 if scattered else 1
        moves = [Move("push", commits[step * number], commits[step * number + 1], str(number)) for number in range(count)]
        late = Move("push", commits[-1], commits[0], "late")
        near = [Move("passed", commit=commits[0])]
        Value.looks = 0
        assert pushes.decide(near, late, lambda: [*moves, *near]).outcome == "new"
        assert pushes.end(moves) == moves[-1]
        assert len(pushes.observe(moves, Value("head"))) == (count if scattered else 1) + 1
        pushes.compacted(moves)
        return Value.looks

    assert work(400) < 3 * work(200)
