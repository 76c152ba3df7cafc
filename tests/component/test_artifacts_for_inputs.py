"""The artifacts that an input of a runnable accepts; on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import yaml

from fuseml.domain.runnables import descriptor
from fuseml.store import database
from fuseml.usecases import runnables
from tests.component.registered import Registered, path

FIT = {
    "name": "fit",
    "version": "1.0.0",
    "image": "i:1",
    "inputs": [
        {"name": "model", "type": "model", "accepts": {"format": ["mlflow", "onnx"], "framework": ["scikit-learn>=1.4", "torch"]}},
        {"name": "rows", "type": "dataset"},
        {"name": "alpha", "type": "number", "default": 1},
    ],
}


@pytest.fixture
def api(store: database.Database) -> Registered:
    api = Registered(store)
    with store.write() as session:
        runnables.register(session, "demo", descriptor.load(yaml.safe_dump(FIT)), by="ada")
    for number, (content, framework, version) in enumerate(
        [("mlflow", "scikit-learn", "1.5.0"), ("mlflow", "scikit-learn", "1.3.0"), ("onnx", "torch", ""), ("pickle", "torch", "2.0")], 1
    ):
        api.register(f"model://demo/m/{number}", format=content, framework={"name": framework, "version": version})
    api.register("model://demo/m/5", format="mlflow")
    api.register("dataset://demo/rows/1")
    api.register("model://other/m/1", format="mlflow", framework={"name": "torch", "version": "2.1"})
    return api


def test_the_artifacts_that_fit_an_input_are_found_on_pages_of_any_size(api: Registered) -> None:
    fitting = ["model://demo/m/1", "model://demo/m/3"]
    assert api.search(accepts="fit:model", project="demo") == fitting
    assert api.search(accepts="fit@^1:model", project="demo", limit="1") == fitting
    assert api.search(accepts="fit:rows", project="demo") == ["dataset://demo/rows/1"]
    assert api.search(accepts="fit:model", project="demo", format="onnx") == ["model://demo/m/3"]


def test_a_built_in_runnable_accepts_the_artifacts_of_every_project(api: Registered) -> None:
    assert api.search(accepts="predictor:model") == [
        "model://demo/m/1",
        "model://demo/m/2",
        "model://demo/m/3",
        "model://demo/m/5",
        "model://other/m/1",
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("accepts=fit&project=demo", 400),
        ("accepts=fit:alpha&project=demo", 400),
        ("accepts=fit:nothing&project=demo", 400),
        ("accepts=fit:rows&project=demo&kind=model", 400),
        ("accepts=fit@^2:model&project=demo", 404),
        ("accepts=fit:model&project=other", 404),
    ],
)
def test_another_input_is_refused(api: Registered, query: str, status: int) -> None:
    assert api.call("GET", f"/artifacts?{query}", status=status)["message"]


def test_the_artifact_of_a_runnable_is_deleted_with_it_only(api: Registered) -> None:
    refused = api.call("DELETE", path("runnable://demo/fit/1.0.0"), status=409)
    assert "fuseml runnable delete fit@1.0.0" in refused["message"]


def test_a_runnable_is_registered_with_its_descriptor_only(api: Registered) -> None:
    refused = api.call("POST", "/artifacts", {"address": "runnable://demo/fit/1.1.0"}, status=400)
    assert "POST /runnables" in refused["message"]
    api.register(f"runnable://demo/fit/sha256:{'1' * 64}")
