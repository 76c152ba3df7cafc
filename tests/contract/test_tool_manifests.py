"""Manifests of applications for KServe and Seldon Core: equal to the golden files, and valid by the definitions of the tools.

`UPDATE_GOLDEN=1` writes the files anew. The definitions are not part of the project; without them the validity is not tested.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from fuseml.domain import application
from fuseml.domain.workflows import resources
from fuseml.servings import Revision, ServingSpec, storage
from fuseml.servings.kserve import render as kserve
from fuseml.servings.seldon import render as seldon
from fuseml.servings.seldon_v2 import render as seldon_v2
from tests import crds
from tests.contract import model_pods

GOLDEN = Path(__file__).parents[1] / "golden"
MOMENT = "2026-11-20T10:00:00.000000Z"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "models",
    "AWS_SECRET_ACCESS_KEY": "canary-7f3a",
    "MLFLOW_S3_ENDPOINT_URL": "http://s3.storage.svc:9000",
    "AWS_DEFAULT_REGION": "us-east-1",
}
TEMPORARY = {**ACCOUNT, "AWS_SESSION_TOKEN": "canary-token"}
DEFINITIONS = {
    "InferenceService": "kserve/inferenceservices.yaml",
    "SeldonDeployment": "seldon-v1/seldondeployments.yaml",
    "Model": "seldon-v2/models.yaml",
    "Experiment": "seldon-v2/experiments.yaml",
}


def spec(
    served_by: str, traffic: dict[int, int] | None = None, *, public: bool = False, name: str = "demo-wine", **fields: Any
) -> ServingSpec:
    def revision(number: int) -> Revision:
        document = {
            "name": name,
            "type": "predictor",
            "workflow": "mlflow-e2e",
            "project": "demo",
            "codeset": "wine",
            "run": f"mlflow-e2e-{number}",
            "model": f"models:/wine/{number}",
            "location": f"s3://mlflow/1/{number}/artifacts/model",
            "served_by": served_by,
            **fields,
        }
        return Revision(number, application.Application.model_validate(document), MOMENT)

    shares = traffic or {1: 100}
    return ServingSpec(name, [revision(number) for number in range(1, max(shares) + 1)], shares, public=public)


def kserve_documents(of: ServingSpec, template: int, percent: int | None = None) -> list[Any]:
    body = kserve.knative(of, template, percent, kserve.Settings())
    if kserve.mode(of.newest.document) == "Standard":
        body = kserve.standard(of, template, kserve.Settings())
    return [body, kserve.account(of), kserve.secret(of)]


def seldon_documents(of: ServingSpec) -> list[Any]:
    return [seldon.service(of, min(of.traffic), seldon.Settings()), seldon.secret(of)]


def seldon_v2_documents(of: ServingSpec) -> list[Any]:
    return [*(seldon_v2.model(of, revision) for revision in seldon_v2.served(of)), seldon_v2.experiment(of), seldon_v2.secret(of)]


K, S, S2 = "kserve-api", "seldon-core-api", "seldon-core-v2-api"
RESOURCES = {"requests": {"cpu": "200m"}, "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"}}
DOCUMENTS: dict[str, Callable[[], list[Any]]] = {
    "kserve/first": lambda: kserve_documents(spec(K, environment=ACCOUNT), 1),
    "kserve/canary": lambda: kserve_documents(spec(K, {1: 80, 2: 20}, public=True), 2, 20),
    "kserve/standard": lambda: kserve_documents(
        spec(K, {1: 80, 2: 20}, options={"mode": "Standard", "gateway": "yes"}, environment=ACCOUNT), 1
    ),
    "kserve/triton": lambda: kserve_documents(
        spec(K, format="onnx", model_server="triton", runtime_version="24.08-py3", resources=RESOURCES), 1
    ),
    "kserve/tensorflow": lambda: kserve_documents(spec(K, format="tensorflow"), 1),
    "kserve/openvino": lambda: kserve_documents(spec(K, format="openvino", options={"mode": "Standard"}), 1),
    "kserve/own-runtime": lambda: kserve_documents(spec(K, format="sklearn", options={"runtime": "team-sklearn"}), 1),
    "seldon/first": lambda: seldon_documents(spec(S, environment=TEMPORARY)),
    "seldon/canary": lambda: seldon_documents(spec(S, {1: 80, 2: 20}, options={"gateway": "http://gw"}, format="sklearn")),
    "seldon/triton": lambda: seldon_documents(spec(S, format="onnx", resources=RESOURCES)),
    "seldon/tensorflow": lambda: seldon_documents(spec(S, format="tensorflow")),
    "seldon_v2/first": lambda: seldon_v2_documents(spec(S2, environment=TEMPORARY)),
    "seldon_v2/canary": lambda: seldon_v2_documents(
        spec(S2, {1: 80, 2: 20}, format="onnx", options={"runtime": "triton"}, resources=RESOURCES)
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_application_is_rendered_as_in_its_golden_file(name: str) -> None:
    documents = [document for document in DOCUMENTS[name]() if document is not None]
    text = yaml.safe_dump_all(documents, sort_keys=False, width=140)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_object_is_valid_by_the_definition_of_its_tool_and_holds_no_secret(name: str) -> None:
    crds.at("kserve")
    for document in DOCUMENTS[name]():
        if document is not None and document["kind"] in DEFINITIONS:
            validator = model_pods.validator(DEFINITIONS[document["kind"]], document["apiVersion"])
            assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)] == []
            assert "canary-" not in str(document)


AMOUNTS = st.sampled_from([None, "20m", "1", "64Mi", "1Gi", "4Gi"])


@given(st.tuples(AMOUNTS, AMOUNTS), st.tuples(AMOUNTS, AMOUNTS))
def test_a_container_asks_for_no_more_than_its_limit(
    requests: tuple[str | None, str | None], limits: tuple[str | None, str | None]
) -> None:
    """What the application states holds, and the defaults of the serving give way."""
    names = ("cpu", "memory")
    wanted = {
        kind: {name: amount for name, amount in zip(names, given, strict=True) if amount}
        for kind, given in (("requests", requests), ("limits", limits))
    }
    assume(not list(resources.faults(wanted["requests"], wanted["limits"])))
    service = kserve.knative(spec(K, resources=wanted), 1, None, kserve.Settings())
    deployment = seldon.service(spec(S, resources=wanted), 1, seldon.Settings())
    (predictor,) = deployment["spec"]["predictors"]
    (container,) = predictor["componentSpecs"][0]["spec"]["containers"]
    for rendered in (service["spec"]["predictor"]["model"]["resources"], container["resources"]):
        assert list(resources.faults(rendered["requests"], rendered["limits"])) == []
        assert all(rendered[kind][name] == amount for kind, given in wanted.items() for name, amount in given.items())


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.integers(1, 99_999))
def test_every_application_gets_names_that_the_tools_accept(name: str, number: int) -> None:
    """DNS labels that begin with a letter, also those that the tools derive from them."""
    revision = Revision(number, spec(K).newest.document, MOMENT)
    derived = [
        f"{kserve.object_name(name)}-predictor-{number:05}",
        f"{seldon.object_name(name)}-main",
        seldon_v2.object_name(name),
        seldon_v2.model_name(name, revision),
    ]
    for item in derived:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", item)


def test_the_account_is_read_from_the_variables_of_s3_clients() -> None:
    account = storage.s3_account(TEMPORARY)
    assert account is not None
    assert (account.host, account.secure, account.region) == ("s3.storage.svc:9000", False, "us-east-1")
    assert storage.s3_account({"AWS_ACCESS_KEY_ID": "alone"}) is None
    assert "canary" not in repr(account)
    assert storage.rclone(account)["RCLONE_CONFIG_S3_SESSION_TOKEN"] == "canary-token"
    amazon = storage.s3_account({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert amazon is not None
    assert (amazon.host, amazon.secure, storage.rclone(amazon)["RCLONE_CONFIG_S3_PROVIDER"]) == ("", True, "AWS")


def test_the_account_of_an_application_belongs_to_one_serving_and_to_no_other_application() -> None:
    """An application may move from one serving to another, whose sweep then deletes the former objects."""
    names = {item.account_name("wine") for item in (kserve, seldon, seldon_v2)}
    assert len(names) == 3
    for name in names:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)
        assert not application.is_name(name)
