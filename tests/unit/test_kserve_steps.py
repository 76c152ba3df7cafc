"""The steps by which KServe moves requests: for any history of changes, failures and delays, requests reach only revisions that may get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.servings.kserve.steps import Seen, Step, step


@dataclass
class Model:
    """KServe's rules: a template makes a Knative revision, given as (revision of the application, whether it can become ready)."""

    broken: frozenset[int]
    made: list[int] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)
    present: Step | None = None
    rolled_out: int | None = None
    previous: int | None = None
    shares: Mapping[int, int] = field(default_factory=dict)

    def seen(self) -> Seen:
        def number(index: int | None) -> int | None:
            return None if index is None else self.made[index]

        template = self.present.template if self.present is not None else None
        return Seen(template, number(max(self.ready, default=None)), number(self.rolled_out), number(self.previous))

    def apply(self, wanted: Step) -> None:
        if self.present is None or self.present.template != wanted.template:
            self.made.append(wanted.template)
        self.present = wanted
        self.route()

    def load(self) -> None:
        """Every pod that can becomes ready."""
        self.ready = {index for index, number in enumerate(self.made) if number not in self.broken}
        self.route()

    def route(self) -> None:
        latest = max(self.ready, default=None)
        if latest is None or self.present is None:
            return
        percent = self.present.percent
        first = 100 if percent is None or self.rolled_out is None else percent
        targets = [(latest, first)] + ([(self.rolled_out, 100 - first)] if self.rolled_out is not None else [])
        by_index: dict[int, int] = {}
        for index, share in targets:
            by_index[index] = by_index.get(index, 0) + share
        if latest != self.rolled_out:
            if first == 100:
                self.previous, self.rolled_out = self.rolled_out, latest
        elif latest == len(self.made) - 1 and first < 100 and by_index[latest] == 100 and self.previous is not None:
            self.rolled_out = self.previous
            by_index = {latest: first, self.previous: 100 - first}
        shares: dict[int, int] = {}
        for index, share in by_index.items():
            if share:
                shares[self.made[index]] = shares.get(self.made[index], 0) + share
        self.shares = shares


TRAFFIC = st.one_of(
    st.integers(1, 4).map(lambda number: {number: 100}),
    st.tuples(st.permutations([1, 2, 3, 4]), st.integers(1, 99)).map(lambda drawn: {drawn[0][0]: drawn[1], drawn[0][1]: 100 - drawn[1]}),
)


@given(st.lists(st.tuples(TRAFFIC, st.integers(0, 8)), min_size=1, max_size=6), st.frozensets(st.integers(1, 4), max_size=2))
def test_requests_reach_only_revisions_that_answered_before_or_shall(
    changes: list[tuple[dict[int, int], int]], broken: frozenset[int]
) -> None:
    """One that was wanted and still loads may answer too, when it becomes ready before its replacement does: KServe cannot hold it back alone."""
    kserve = Model(broken)
    for traffic, patience in changes:
        loading = {number for index, number in enumerate(kserve.made) if index not in kserve.ready}
        allowed = set(kserve.shares) | traffic.keys() | loading
        for turn in range(patience):
            kserve.apply(step(traffic, kserve.seen()))
            assert kserve.shares.keys() <= allowed
            if turn % 2:
                kserve.load()
                assert kserve.shares.keys() <= allowed
            assert sum(kserve.shares.values()) in (0, 100)


@given(st.lists(TRAFFIC, min_size=1, max_size=5))
def test_every_change_ends_with_its_traffic_and_then_takes_no_further_step(changes: list[dict[int, int]]) -> None:
    kserve = Model(frozenset())
    for traffic in changes:
        for _ in range(8):
            kserve.apply(step(traffic, kserve.seen()))
            kserve.load()
        assert kserve.shares == traffic
        assert step(traffic, kserve.seen()) == kserve.present


@pytest.mark.parametrize(
    ("traffic", "seen", "expected"),
    [
        ({1: 100}, Seen(), Step(1)),
        ({2: 100}, Seen(1, 1, 1), Step(2)),
        ({1: 80, 2: 20}, Seen(1, 1, 1), Step(2, 20)),
        ({1: 100}, Seen(2, 2, 1), Step(2, 0)),  # back from a canary, at once
        ({1: 100}, Seen(2, 2, 2, 1), Step(2, 0)),  # back from a rollout, at once
        ({3: 100}, Seen(2, 2, 1), Step(3, 0)),  # the former canary gets nothing while the next model loads
        ({3: 100}, Seen(3, 2, 1), Step(3, 0)),
        ({3: 100}, Seen(3, 3, 1), Step(3)),
    ],
)
def test_the_next_step(traffic: dict[int, int], seen: Seen, expected: Step) -> None:
    assert step(traffic, seen) == expected
