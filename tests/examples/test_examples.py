"""Each example codeset is pushed to an embedded server, trained and served, and answers a request: `task examples -- pytorch`.

The workflow names the original's image for KServe and its service, as a published one does. FuseML serves in KServe's place, as the record says.
"""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
WORKFLOW = importlib.resources.files("fuseml") / "examples/workflows/mlflow-e2e.yaml"
NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "MLproject").is_file())
_PATIENCE = 1_800.0
LIGHT = ("scikit-learn",)
"""Their requirements are those of this environment, so that they need no packages from an index."""
# Two wines of the data: one of the first kind, one of the last.
ROWS = (
    [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0],
    [12.86, 1.35, 2.32, 18.0, 122.0, 1.51, 1.25, 0.21, 0.94, 4.1, 0.76, 1.29, 630.0],
)
KINDS = [0, 2]
STAND_IN = {
    "id": "kserve-here",
    "product": "kserve",
    "services": [
        {
            "id": "kserve",
            "resource": "kserve-api",
            "category": "prediction-serving",
            "endpoints": [{"url": "http://127.0.0.1", "type": "internal", "configuration": {"FUSEML_SERVING": "fuseml-serving"}}],
        }
    ],
}


def workflow() -> bytes:
    """The shipped workflow with the original's predictor."""
    text = WORKFLOW.read_text()
    changes = {
        "ghcr.io/fuseml/predictor:v1": "ghcr.io/fuseml/kserve-predictor:latest",
        "service_category: prediction-serving": "service_resource: kserve-api",
    }
    for shipped, published in changes.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, published)
    return text.encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("examples") / "home") as running:
        running.tracking_ready()
        running.fuseml("extension", "discover", "--apply")
        running.post("/extensions", STAND_IN)
        running.post("/workflows", raw=workflow())
        yield running


def finished(server: servers.Server, commit: str) -> dict[str, Any]:
    """The finished run of the commit. An environment of many packages takes minutes."""

    def found() -> dict[str, Any] | None:
        own = [run for run in server.get("/runs?limit=100") if run["commit"] == commit]
        return next((run for run in own if run["state"] in servers.FINISHED), None)

    run = wait_until(found, f"the run of {commit}", patience=_PATIENCE)
    assert run is not None
    return run


def request(metadata: dict[str, Any]) -> dict[str, object]:
    """The rows in the tensors that the model takes: one of all columns, or one for each."""
    inputs = metadata["inputs"]
    if len(inputs) == 1:
        [tensor] = inputs
        data = [value for row in ROWS for value in row]
        return {"inputs": [{"name": tensor["name"], "shape": [len(ROWS), len(ROWS[0])], "datatype": tensor["datatype"], "data": data}]}
    columns = [
        {"name": tensor["name"], "shape": [len(ROWS)], "datatype": tensor["datatype"], "data": [row[index] for row in ROWS]}
        for index, tensor in enumerate(inputs)
    ]
    return {"inputs": columns}


def kinds(answer: dict[str, Any]) -> list[int]:
    """The predicted kinds: as they are, or as the places of the highest scores."""
    output = next((item for item in answer["outputs"] if item["name"] == "label"), answer["outputs"][0])
    values: list[float] = output["data"]
    if len(values) == len(ROWS):
        return [round(value) for value in values]
    width = len(values) // len(ROWS)
    rows = [values[index * width : (index + 1) * width] for index in range(len(ROWS))]
    return [row.index(max(row)) for row in rows]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.timeout(3_600),
                *(
                    [pytest.mark.skipif(not os.environ.get("FUSEML_TEST_EXAMPLES"), reason=f"needs packages: `task examples -- {name}`")]
                    if name not in LIGHT
                    else []
                ),
            ],
        )
        for name in NAMES
    ],
)
def test_an_example_is_trained_and_served(name: str, server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = server.post(f"/codesets?project=examples&name={name}")
    checkout = servers.Checkout(tmp_path / "code", codeset["codeset"]["url"], codeset["username"], codeset["password"])
    shutil.copytree(EXAMPLES / name, checkout.folder, dirs_exist_ok=True)
    server.post(f"/workflows/assignments?name=mlflow-e2e&codesetProject=examples&codesetName={name}")

    commit = checkout.push("train")

    run = finished(server, commit)
    assert (run["state"], run["cause"]) == ("succeeded", None), run
    [serving] = [binding for binding in run["bindings"] if binding["name"] == "prediction-serving"]
    assert serving["extension_id"] == "kserve-here"
    application = f"examples-{name}-mlflow-e2e"
    metadata = server.get(f"/apps/{application}/v2/models/{application}")
    answer = server.post(f"/apps/{application}/v2/models/{application}/infer", request(metadata))
    assert kinds(answer) == KINDS
