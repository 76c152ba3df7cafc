"""Contract of servings: one suite for the embedded server's model servers, for Knative, KServe, and Seldon Core 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuseml.domain import application
from fuseml.servings import CONNECTORS, Settings, connect
from tests.contract import servings
from tests.contract.servings import UnderTest

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module", params=servings.PARAMS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    with servings.SERVINGS[request.param](tmp_path_factory.mktemp("serving")) as under_test:
        yield under_test


@pytest.fixture
def under_test(running: UnderTest) -> Iterator[UnderTest]:
    """The serving, without applications."""
    yield running
    running.clear()


def test_a_registered_model_is_served_and_the_same_spec_again_changes_nothing(under_test: UnderTest) -> None:
    spec = under_test.register("once", under_test.models.first)
    status = under_test.wait(spec, "ready")
    assert (status.cause, status.traffic) == ("", {1: 100})
    under_test.wait_for_answer(status.url, "once", under_test.models.first)
    under_test.serving.apply(spec)
    assert under_test.serving.status(spec) == status
    under_test.serving.reconcile([spec])
    assert under_test.serving.status(spec) == status
    assert under_test.predict(status.url, "once") == (200, under_test.models.first.answer)


def test_a_replacement_and_a_roll_back_fail_no_request_and_take_effect_without_one(under_test: UnderTest) -> None:
    first, second = under_test.models.first, under_test.models.second
    url = under_test.wait(under_test.register("busy", first), "ready").url
    under_test.wait_for_answer(url, "busy", first)
    caller = under_test.caller(url, "busy")
    with caller.calling():
        replaced = under_test.register("busy", second)
        under_test.wait_for_answer(url, "busy", second)
        assert under_test.wait(replaced, "ready").traffic == {2: 100}
        assert sorted(under_test.serving.servable(replaced)) == [1, 2]
        back = under_test.route("busy", application.rolled_back(replaced.traffic, [1, 2]))
        under_test.wait_for_answer(url, "busy", first)
        assert under_test.wait(back, "ready").traffic == {1: 100}
    assert caller.failures == []
    assert {answer for _, answer in caller.answers} == {first.answer, second.answer}
    forth = under_test.route("busy", {2: 100})
    assert under_test.wait(forth, "ready").traffic == {2: 100}
    assert under_test.predict(url, "busy") == (200, second.answer), "the first request since then"


def test_requests_are_split_among_revisions_by_their_shares(under_test: UnderTest) -> None:
    if not (under_test.serving.splits and under_test.splits):
        pytest.skip("this serving declares that it cannot split requests")
    first, second = under_test.models.first, under_test.models.second
    under_test.wait(under_test.register("split", first), "ready")
    under_test.wait(under_test.register("split", second), "ready")
    status = under_test.wait(under_test.route("split", {1: 80, 2: 20}), "ready")
    assert status.traffic == {1: 80, 2: 20}
    answers = [under_test.predict(status.url, "split")[1] for _ in range(200)]
    assert set(answers) == {first.answer, second.answer}
    # The expected 40 of 200, and five standard deviations of the binomial distribution.
    assert abs(answers.count(second.answer) - 40) < 29


def test_a_model_that_cannot_be_loaded_is_reported_with_its_cause_and_the_former_one_goes_on(under_test: UnderTest) -> None:
    first = under_test.models.first
    url = under_test.wait(under_test.register("broken", first), "ready").url
    under_test.wait_for_answer(url, "broken", first)
    spec = under_test.register("broken", under_test.models.broken)
    status = under_test.wait(spec, "failed")
    assert "cannot load" in status.cause
    assert status.traffic == {1: 100}
    assert under_test.predict(url, "broken") == (200, first.answer)


def test_a_removed_application_answers_no_more_and_can_be_registered_again(under_test: UnderTest) -> None:
    first, second = under_test.models.first, under_test.models.second
    url = under_test.wait(under_test.register("gone", first), "ready").url
    under_test.wait_for_answer(url, "gone", first)
    under_test.serving.remove("gone")
    under_test.forget("gone")
    under_test.wait_for_end(url, "gone")
    under_test.serving.remove("gone")
    url = under_test.wait(under_test.register("gone", second), "ready").url
    under_test.wait_for_answer(url, "gone", second)


def test_the_sweep_serves_what_was_only_recorded_and_ends_what_has_no_record(under_test: UnderTest) -> None:
    kept = under_test.record("kept", under_test.models.first)
    lost = under_test.register("lost", under_test.models.first)
    lost_url = under_test.wait(lost, "ready").url
    under_test.forget("lost")
    assert under_test.serving.statuses([kept, lost]) == {spec.name: under_test.serving.status(spec) for spec in (kept, lost)}
    under_test.serving.reconcile([kept])
    under_test.wait_for_end(lost_url, "lost")
    url = under_test.wait(kept, "ready").url
    under_test.wait_for_answer(url, "kept", under_test.models.first)


def test_every_configured_serving_is_connected_and_no_other() -> None:
    assert connect(Settings("workloads")).keys() == CONNECTORS.keys() - {application.BUILT_IN}
    assert connect(Settings("workloads", image="ghcr.io/fuseml/model-server:v1")).keys() == CONNECTORS.keys()
