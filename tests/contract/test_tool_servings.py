"""What KServe and Seldon Core can and cannot do, each over a small controller: causes within moments, refusals before anything is stored, nothing left."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml import servings
from fuseml.domain import application, errors
from fuseml.servings import kserve, seldon, seldon_v2
from tests.contract import kserve_controller, model_pods, seldon_controllers
from tests.contract import servings as suite
from tests.contract.servings import ACCOUNT, Model, Models, UnderTest
from tests.unit import kubernetes_api
from tests.unit.kubernetes_api import Fault

IN_BUCKET = Models(*(Model(address, answer) for address, answer in model_pods.ANSWERS.items()))
NOWHERE = Model("s3://models/nowhere", None)


@dataclasses.dataclass(frozen=True)
class Tool:
    """How a tool's controller is brought up, its serving over the API at an address, and the fields of its applications."""

    controller: Callable[[], contextlib.AbstractContextManager[tuple[model_pods.Controller, str]]]
    serving: Callable[[str], servings.Serving]
    fields: dict[str, Any]


TOOLS = {
    "kserve": Tool(
        kserve_controller.running,
        lambda url: kserve.KServeServing(kserve.Cluster(kubernetes_api.NAMESPACE, url), kserve.Settings(settling=0.2)),
        {"served_by": "kserve-api"},
    ),
    "kserve standard": Tool(
        kserve_controller.running,
        lambda url: kserve.KServeServing(kserve.Cluster(kubernetes_api.NAMESPACE, url), kserve.Settings(settling=0.2)),
        {"served_by": "kserve-api", "options": {"mode": "Standard"}},
    ),
    "seldon core 1": Tool(
        seldon_controllers.core_1,
        lambda url: seldon.SeldonServing(seldon.Cluster(kubernetes_api.NAMESPACE, url), seldon.Settings()),
        {"served_by": "seldon-core-api"},
    ),
    "seldon core 2": Tool(
        seldon_controllers.core_2,
        lambda url: seldon_v2.SeldonV2Serving(seldon_v2.Cluster(kubernetes_api.NAMESPACE, url), seldon_v2.Settings(settling=0.1)),
        {"served_by": "seldon-core-v2-api"},
    ),
}
each_tool = pytest.mark.parametrize("name", TOOLS)


@contextlib.contextmanager
def served_by(name: str, folder: Path, **fields: Any) -> Iterator[tuple[UnderTest, model_pods.Controller]]:
    tool = TOOLS[name]
    with suite.records(folder) as (store, keyring), tool.controller() as (controller, url):
        fields = {**tool.fields, **fields}
        yield UnderTest(tool.serving(url), store, keyring, IN_BUCKET, environment=ACCOUNT, fields=fields), controller


def with_environment(spec: servings.ServingSpec, **variables: str) -> servings.ServingSpec:
    def changed(revision: servings.Revision) -> servings.Revision:
        environment = {**revision.document.environment, **variables}
        return dataclasses.replace(revision, document=revision.document.model_copy(update={"environment": environment}))

    return dataclasses.replace(spec, revisions=[changed(revision) for revision in spec.revisions])


@each_tool
def test_files_that_are_not_there_are_the_cause_and_the_former_model_goes_on(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, _):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        status = under_test.wait(under_test.register("wine", NOWHERE), "failed")
        assert status.cause == "Failed to fetch model. No model found in models/nowhere."
        assert status.traffic == {1: 100}
        assert under_test.wait(under_test.register("wine", IN_BUCKET.second), "ready").traffic == {3: 100}


@each_tool
def test_an_account_without_access_is_the_cause(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, _):
        refused = dataclasses.replace(under_test, environment={**ACCOUNT, "AWS_SECRET_ACCESS_KEY": "wrong"})
        assert refused.wait(refused.register("wine", IN_BUCKET.first), "failed").cause == "Failed to fetch model. Access Denied."


@each_tool
def test_a_new_model_is_not_ready_for_the_sake_of_the_former_one(name: str, tmp_path: Path) -> None:
    """The state that the tool shows right after a change is that of the former model."""
    with served_by(name, tmp_path) as (under_test, controller):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        controller.paused.set()
        spec = under_test.register("wine", IN_BUCKET.second)
        status = under_test.serving.status(spec)
        assert (status.state, status.traffic) == ("starting", {1: 100})
        controller.paused.clear()
        assert under_test.wait(spec, "ready").traffic == {2: 100}


def breaking_off(last: int, fault: Fault) -> Callable[[int, str, str], Fault | None]:
    """Every request from number `last` on has the fault."""
    return lambda number, method, path: fault if number >= last else None


@each_tool
def test_a_change_that_breaks_off_after_any_request_is_completed_by_the_sweep(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        for allowed in range(5):
            controller.api.faults = breaking_off(len(controller.api.requests) + allowed, Fault(after=allowed % 2 == 0))
            spec = under_test.record("wine", IN_BUCKET.second if allowed % 2 else IN_BUCKET.first)
            with contextlib.suppress(errors.TemporaryError):
                under_test.serving.apply(spec)
            controller.api.faults = lambda number, method, path: None
            under_test.serving.reconcile([spec])
            assert under_test.wait(spec, "ready").traffic == {spec.newest.number: 100}


@each_tool
def test_nothing_is_left_of_a_removed_application(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        kinds = {kind for kind, _ in controller.api.objects}
        assert "secrets" in kinds
        under_test.serving.remove("wine")
        under_test.forget("wine")
        with controller.api.lock:
            controller.tick()
            assert controller.api.objects == {}


@each_tool
@pytest.mark.parametrize("by", ["removal", "sweep"])
def test_a_removal_that_breaks_off_after_any_request_is_completed_by_the_sweep(name: str, by: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        for allowed in range(6):
            under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
            under_test.forget("wine")
            controller.api.faults = breaking_off(len(controller.api.requests) + allowed, Fault(after=allowed % 2 == 0))
            with contextlib.suppress(errors.TemporaryError):
                under_test.serving.remove("wine") if by == "removal" else under_test.serving.reconcile([])
            controller.api.faults = lambda number, method, path: None
            if by == "removal":
                under_test.serving.remove("wine")
            under_test.serving.reconcile([])
            with controller.api.lock:
                controller.tick()
                assert controller.api.objects == {}


@each_tool
def test_an_application_whose_removal_broke_off_is_whole_again_after_a_sweep(name: str, tmp_path: Path) -> None:
    """Its record is deleted last."""
    with served_by(name, tmp_path) as (under_test, controller):
        spec = under_test.register("wine", IN_BUCKET.first)
        under_test.wait(spec, "ready")
        for allowed in range(6):
            before = set(controller.api.objects)
            controller.api.faults = breaking_off(len(controller.api.requests) + allowed, Fault(after=allowed % 2 == 0))
            with contextlib.suppress(errors.TemporaryError):
                under_test.serving.remove("wine")
            controller.api.faults = lambda number, method, path: None
            under_test.serving.reconcile([spec])
            under_test.wait(spec, "ready")
            assert {key for key in controller.api.objects if key[0] == "secrets"} == {key for key in before if key[0] == "secrets"}


@each_tool
def test_the_sweep_keeps_what_serves_an_application_whose_new_revision_is_refused(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        before = set(controller.api.objects)
        spec = under_test.record("wine", Model("mlflow-artifacts:/1/abc/artifacts/model", None))
        with pytest.raises(errors.InvalidError, match=r"fetches the files of a model itself"):
            under_test.serving.reconcile([spec])
        with controller.api.lock:
            controller.tick()
            assert set(controller.api.objects) == before


@each_tool
def test_a_cluster_without_the_tool_has_nothing_to_serve_and_refuses_an_application(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        controller.api.absent |= {kind for kind, _ in controller.kinds}
        under_test.serving.reconcile([])
        with pytest.raises(errors.NotFoundError, match=r"is (KServe|Seldon Core \d) installed"):
            under_test.register("wine", IN_BUCKET.first)


@each_tool
def test_temporary_credentials_work_or_the_refusal_names_the_tool(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, controller):
        spec = with_environment(under_test.record("wine", IN_BUCKET.first), **ACCOUNT, AWS_SESSION_TOKEN=model_pods.TOKEN)
        if name.startswith("kserve"):
            with pytest.raises(errors.InvalidError, match="KServe with temporary S3 credentials"):
                under_test.serving.check(spec)
            return
        under_test.serving.check(spec)
        under_test.serving.apply(spec)
        [secret] = [key for kind, key in controller.api.objects if kind == "secrets"]
        assert model_pods.TOKEN in str(controller.environment(secret))
        under_test.wait(spec, "ready")


@each_tool
def test_files_behind_the_tracking_server_are_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    with served_by(name, tmp_path) as (under_test, _):
        spec = under_test.record("wine", Model("mlflow-artifacts:/1/abc/artifacts/model", None))
        with pytest.raises(errors.InvalidError, match=r"fetches the files of a model itself.*--no-serve-artifacts"):
            under_test.serving.check(spec)


def test_seldon_core_1_splits_requests_only_in_the_gateway_of_a_mesh(tmp_path: Path) -> None:
    with served_by("seldon core 1", tmp_path) as (under_test, _):
        under_test.register("wine", IN_BUCKET.first)
        spec = dataclasses.replace(under_test.record("wine", IN_BUCKET.second), traffic={1: 80, 2: 20})
        with pytest.raises(errors.InvalidError, match="only in the gateway of a mesh"):
            under_test.serving.check(spec)
    gateway = {"gateway": "http://seldon.example.com"}
    (tmp_path / "mesh").mkdir()
    with served_by("seldon core 1", tmp_path / "mesh", options=gateway) as (under_test, controller):
        under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        under_test.wait(under_test.register("wine", IN_BUCKET.second), "ready")
        status = under_test.wait(under_test.route("wine", {1: 20, 2: 80}), "ready")
        assert status.traffic == {1: 20, 2: 80}
        assert status.url == "http://seldon.example.com/seldon/fuseml-workloads/wine"
        predictors = controller.api.objects["seldondeployments", "wine"]["spec"]["predictors"]
        assert [(item["name"], item["traffic"]) for item in predictors] == [("main", 80), ("r00001", 20)]
        assert under_test.wait(under_test.route("wine", {1: 100}), "ready").traffic == {1: 100}


def test_kserve_splits_requests_in_the_mode_standard_only_with_the_gateway_api(tmp_path: Path) -> None:
    with served_by("kserve standard", tmp_path) as (under_test, _):
        spec = dataclasses.replace(under_test.record("wine", IN_BUCKET.second), traffic={1: 80, 2: 20})
        with pytest.raises(errors.InvalidError, match="only with the Gateway API"):
            under_test.serving.check(spec)


def test_kserve_refuses_a_split_among_three_and_an_unknown_mode(tmp_path: Path) -> None:
    with served_by("kserve", tmp_path) as (under_test, _):
        spec = under_test.record("wine", IN_BUCKET.first)
        with pytest.raises(errors.InvalidError, match="between two revisions, not 3"):
            under_test.serving.check(dataclasses.replace(spec, traffic={1: 20, 2: 20, 3: 60}))
    (tmp_path / "mode").mkdir()
    with served_by("kserve", tmp_path / "mode", options={"mode": "Serverless"}) as (under_test, _):
        spec = under_test.record("wine", IN_BUCKET.first)
        with pytest.raises(errors.InvalidError, match="no mode 'Serverless'"):
            under_test.serving.check(spec)


def test_a_format_without_a_runtime_is_reported_by_kserve_and_refused_by_seldon_core_1(tmp_path: Path) -> None:
    with served_by("kserve", tmp_path, format="lightgbm") as (under_test, _):
        status = under_test.wait(under_test.register("wine", IN_BUCKET.first), "failed")
        assert status.cause == "NoSupportingRuntime: No runtime found to support specified framework/version"
    (tmp_path / "seldon").mkdir()
    with served_by("seldon core 1", tmp_path / "seldon", format="lightgbm") as (under_test, _):
        spec = under_test.record("wine", IN_BUCKET.first)
        with pytest.raises(errors.InvalidError, match="no prepackaged server for the format 'lightgbm'"):
            under_test.serving.check(spec)


def test_a_model_that_was_rolled_back_gets_no_request_while_the_next_one_loads(tmp_path: Path) -> None:
    """Without a share, KServe sends all requests to the newest revision that is ready, and that is the one that was rolled back."""
    with served_by("kserve", tmp_path) as (under_test, _):
        url = under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready").url
        replaced = under_test.register("wine", IN_BUCKET.second)
        under_test.wait(replaced, "ready")
        under_test.wait(under_test.route("wine", application.rolled_back(replaced.traffic, [1, 2])), "ready")
        caller = suite.Caller(url, "wine")
        with caller.calling():
            assert under_test.wait(under_test.register("wine", IN_BUCKET.broken), "failed").traffic == {1: 100}
            under_test.wait(under_test.register("wine", IN_BUCKET.first), "ready")
        assert {answer for _, answer in caller.answers} == {1.0}


def test_the_kserve_address_outside_of_the_cluster_is_that_of_public_applications_only(tmp_path: Path) -> None:
    with served_by("kserve", tmp_path) as (under_test, controller):
        under_test.register("inner", IN_BUCKET.first)
    (tmp_path / "public").mkdir()
    inner = controller.api.objects["inferenceservices", "inner"]["metadata"]["labels"]
    with served_by("kserve", tmp_path / "public", public=True) as (under_test, controller):
        under_test.register("outer", IN_BUCKET.first)
    outer = controller.api.objects["inferenceservices", "outer"]["metadata"]["labels"]
    assert inner["networking.knative.dev/visibility"] == "cluster-local"
    assert "networking.knative.dev/visibility" not in outer
