"""The rule of retention: nothing that is protected goes, more protection keeps more, and the order of evaluation does not matter."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans, times
from fuseml.domain.artifacts import retention
from fuseml.domain.artifacts.retention import Facts, Lock, Policy, Reason
from fuseml.domain.plans import locks

NOW = "2026-12-01T12:00:00.000000Z"
Own = Mapping[str, Reason | None]
Locks = Mapping[str, Sequence[Lock]]

_ADDRESSES = [f"model://p/m/{number}" for number in range(8)]
_reasons = st.sampled_from([None, None, Reason("tag", "tagged v1"), Reason("newest", "the newest of its name")])
_own = st.dictionaries(st.sampled_from(_ADDRESSES), _reasons)
_locks = st.dictionaries(
    st.sampled_from(_ADDRESSES),
    st.lists(st.builds(Lock, st.sampled_from(["", "train-1", "train-2"]), st.sampled_from(_ADDRESSES)), max_size=4),
)


def kept(own: Own, locked: Locks) -> set[str]:
    return {address for address, reason in retention.decide(own, locked).items() if reason is not None}


def reaches(own: Own, locked: Locks, address: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether products of products lead to a protected artifact, through recorded ones."""
    if address not in own or address in seen:
        return False
    return own[address] is not None or any(reaches(own, locked, lock.product, seen | {address}) for lock in locked.get(address, ()))


@given(_own, _locks)
def test_exactly_the_protected_and_the_sources_of_kept_ones_are_kept(own: Own, locked: Locks) -> None:
    assert kept(own, locked) == {address for address in own if reaches(own, locked, address)}
    for address, reason in retention.decide(own, locked).items():
        assert own[address] in (None, reason)
        if own[address] is None and reason is not None:
            assert reason.cause == "lock"


@given(_own, _locks, st.randoms(use_true_random=False))
def test_the_order_of_evaluation_does_not_matter(own: Own, locked: Locks, source: random.Random) -> None:
    mixed = dict(source.sample(list(own.items()), len(own)))
    mixed_locks = {
        address: source.sample(list(locked[address]), len(locked[address])) for address in source.sample(list(locked), len(locked))
    }
    assert retention.decide(mixed, mixed_locks) == retention.decide(own, locked)


@given(_own, _locks)
def test_a_second_pass_removes_nothing_more(own: Own, locked: Locks) -> None:
    left = {address: own[address] for address in kept(own, locked)}
    assert kept(left, locked) == left.keys()


@given(_own, _locks, st.sampled_from(_ADDRESSES), st.builds(Lock, st.just("train-3"), st.sampled_from(_ADDRESSES)))
def test_more_protection_keeps_more(own: Own, locked: Locks, address: str, lock: Lock) -> None:
    before = kept(own, locked)
    assert before <= kept({**own, address: Reason("tag", "tagged new")}, locked)
    assert before <= kept(own, {**locked, address: [*locked.get(address, ()), lock]})


_names = st.lists(st.sampled_from(["a", "b"]), max_size=2)
_facts = st.builds(
    Facts,
    kind=st.sampled_from(["model", "dataset", "code"]),
    created=st.integers(0, 40).map(lambda days: times.shift(NOW, -86400 * days)),
    newer=st.integers(0, 10),
    tags=_names,
    applications=_names,
    runs=_names,
    refs=_names,
    is_runnable=st.booleans(),
)
_numbers = st.none() | st.integers(1, 12)
_policies = st.builds(Policy, newest=_numbers, days=_numbers).filter(lambda policy: policy != Policy())


@given(_policies, _facts)
def test_nothing_that_is_protected_goes(policy: Policy, facts: Facts) -> None:
    reason = retention.protection(policy, facts, NOW)
    is_named = facts.tags or facts.applications or facts.runs or facts.refs or facts.is_runnable
    is_newest = facts.newer < (policy.newest or 0) or (facts.kind == "code" and facts.newer == 0)
    is_young = policy.days is not None and times.between(facts.created, NOW) <= 86400 * policy.days
    assert (reason is not None) == bool(is_named or is_newest or is_young)
    assert retention.protection(None, facts, NOW) == Reason("policy", "no policy for its kind and project")


@given(_policies, _facts, st.integers(0, 5), st.integers(0, 5))
def test_a_larger_number_keeps_more(policy: Policy, facts: Facts, more: int, longer: int) -> None:
    larger = Policy(*(None if number is None else number + plus for number, plus in ((policy.newest, more), (policy.days, longer))))
    if retention.protection(policy, facts, NOW) is not None:
        assert retention.protection(larger, facts, NOW) is not None


def test_reasons_are_texts_for_people() -> None:
    facts = Facts(kind="model", created=NOW, newer=0)
    for text, given_facts in {
        "tagged a, b, c and 1 more": Facts("model", NOW, 0, tags=["d", "c", "b", "a"]),
        "served by wine": Facts("model", NOW, 0, applications=["wine"]),
        "used by the unfinished train-1": Facts("model", NOW, 0, runs=["train-1"]),
        "refs/heads/main is at it": Facts("code", NOW, 0, refs=["refs/heads/main"]),
        "among the newest 3 of its name": facts,
    }.items():
        reason = retention.protection(Policy(newest=3), given_facts, NOW)
        assert reason is not None and reason.text == text
    assert retention.protection(Policy(days=1), facts, NOW) == Reason("days", "younger than 1 day")
    decided = retention.decide({"a": None, "b": Reason("tag", "tagged x")}, {"a": [Lock("train-1", "b")]})
    assert decided["a"] == Reason("lock", "in the lock of train-1, which made b")


@pytest.mark.parametrize(("newest", "days"), [(None, None), (0, None), (None, 0), (10_001, None), (1, -1)])
def test_a_policy_without_a_number_in_range_is_refused(newest: int | None, days: int | None) -> None:
    with pytest.raises(errors.InvalidError, match=r"newest|days"):
        retention.check(newest, days)


def test_a_lock_names_everything_that_a_repetition_needs() -> None:
    store = plans.Store(extension="own", service="store", resource="folder", url="file:///s")
    step = plans.StepPlan(
        name="fit",
        image=plans.text("fit:1"),
        runnable="runnable://demo/fitter/1.0.0",
        args=(plans.text("--from=dataset://demo/raw/a,dataset://demo/raw/b"),),
        variables=(plans.Variable(name="MODEL", value=plans.text("models:/base/3")),),
        checkouts=(plans.Checkout(name="code", project="demo", codeset="wine", url="", ref="", commit="c" * 40, path="/code"),),
        fetches=(plans.Fetch(name="data", address=plans.text("dataset://demo/in/1"), path="/data", store=store),),
        collects=(
            plans.Collect(output="made", kind="model", name="made", path="out", store=store),
            plans.Collect(output="scratch", kind="dataset", path="tmp", store=store),
        ),
    )
    reused = plans.ReusedStep(name="prepare", run="train-0", image=(), outputs={"data": "dataset://demo/prepared/9"})
    plan = plans.Plan(
        id="1",
        run="train-1",
        project="demo",
        workflow="train",
        revision=1,
        inputs={"x": "it's model://other/x/1"},
        steps=(step,),
        reused=(reused,),
    )
    assert locks.named(plan) == [
        f"code://demo/wine/{'c' * 40}",
        "dataset://demo/in/1",
        "dataset://demo/prepared/9",
        "dataset://demo/raw/a",
        "dataset://demo/raw/b",
        "model://demo/base/3",
        "model://other/x/1",
        "runnable://demo/fitter/1.0.0",
    ]
    assert [(name, collect.output) for name, collect in locks.anonymous(plan)] == [("fit", "scratch")]
