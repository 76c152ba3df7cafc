"""What KServe and Seldon Core 1 do on a real cluster: causes of models that are not there, no readiness for the former model's sake, nothing left.

The contract suite of servings (tests/contract/test_serving.py) runs against them too. The runtimes of the tool serve scikit-learn by the protocol v2,
and FUSEML_TEST_HOST (`host.local`) is where pods find the models, in a bucket of this process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from fuseml.domain import errors
from tests import commands
from tests.contract import servings
from tests.contract.servings import Model, UnderTest

from .deployment import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

KINDS = ("deployments", "pods", "services", "secrets", "serviceaccounts", "horizontalpodautoscalers")
DEFINED = ("inferenceservices.serving.kserve.io", "seldondeployments.machinelearning.seldon.io", "services.serving.knative.dev")


@pytest.fixture(scope="module", params=["real kserve", "real kserve standard", "real seldon core 1"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    with servings.SERVINGS[request.param](tmp_path_factory.mktemp("serving")) as under_test:
        yield under_test


@pytest.fixture
def under_test(running: UnderTest) -> Iterator[UnderTest]:
    yield running
    running.clear()


def absent(under_test: UnderTest) -> Model:
    """A model that is not in the bucket."""
    return Model(under_test.models.first.address.replace("first", "nowhere"), None)


def test_files_that_are_not_there_are_the_cause_and_the_former_model_goes_on(under_test: UnderTest) -> None:
    first = under_test.models.first
    url = under_test.wait(under_test.register("absent", first), "ready").url
    under_test.wait_for_answer(url, "absent", first)
    caller = under_test.caller(url, "absent")
    with caller.calling():
        failed = under_test.wait(under_test.register("absent", absent(under_test)), "failed")
        assert "nowhere" in failed.cause
        assert failed.traffic == {1: 100}
        mended = under_test.wait(under_test.register("absent", under_test.models.second), "ready")
        assert mended.traffic == {3: 100}
        under_test.wait_for_answer(url, "absent", under_test.models.second)
    assert caller.failures == []
    assert {answer for _, answer in caller.answers} == {1.0, 2.0}


def test_a_first_model_that_is_not_there_is_a_failure(under_test: UnderTest) -> None:
    status = under_test.wait(under_test.register("first", absent(under_test)), "failed")
    assert "nowhere" in status.cause
    assert status.traffic == {}


def test_an_account_without_access_is_the_cause(under_test: UnderTest) -> None:
    refused = dataclasses.replace(under_test, environment={**under_test.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    cause = refused.wait(refused.register("refused", under_test.models.first), "failed").cause
    assert "denied" in cause.lower() or "signature" in cause.lower() or "forbidden" in cause.lower(), cause


def test_a_new_model_is_not_ready_for_the_sake_of_the_former_one(under_test: UnderTest) -> None:
    url = under_test.wait(under_test.register("stale", under_test.models.first), "ready").url
    under_test.wait_for_answer(url, "stale", under_test.models.first)
    spec = under_test.register("stale", under_test.models.second)
    status = under_test.observe(spec)
    assert (status.state, status.traffic) == ("starting", {1: 100})

    def replaced() -> bool:
        """Whether it is ready. From then on each answer is the new model's."""
        if under_test.observe(spec).state != "ready":
            return False
        assert [under_test.predict(url, "stale") for _ in range(5)] == [(200, under_test.models.second.answer)] * 5
        return True

    wait_until(replaced, "the new model")


def test_nothing_is_left_of_a_removed_application(under_test: UnderTest) -> None:
    [namespace] = {under_test.serving.status(under_test.record("left", under_test.models.first)).namespace}

    present = commands.run(["kubectl", "get", "crds", "--output=name"]).stdout
    kinds = ",".join([*KINDS, *(kind for kind in DEFINED if kind in present)])

    def objects() -> set[str]:
        return set(commands.run(["kubectl", "get", kinds, f"--namespace={namespace}", "--output=name"]).stdout.split())

    under_test.clear()
    wait_until(lambda: objects() <= {"serviceaccount/default"}, lambda: f"an empty namespace: {objects()}")
    under_test.wait(under_test.register("left", under_test.models.first), "ready")
    assert len(objects()) > 5
    under_test.serving.remove("left")
    under_test.forget("left")
    wait_until(lambda: objects() <= {"serviceaccount/default"}, lambda: f"nothing but {objects()}")


def test_a_format_without_a_runtime_is_reported_or_refused(under_test: UnderTest) -> None:
    other = dataclasses.replace(under_test, fields={**under_test.fields, "format": "tensorflow"})
    if under_test.fields["served_by"] == "seldon-core-api":
        other = dataclasses.replace(under_test, fields={**under_test.fields, "format": "lightgbm"})
        with pytest.raises(errors.InvalidError, match="no prepackaged server for the format 'lightgbm'"):
            other.register("odd", under_test.models.first)
        return
    assert "KServe has no runtime 'kserve-tensorflow-serving'" in other.wait(other.register("odd", under_test.models.first), "failed").cause
