"""Model servers on real models, started by command, arguments and variables of the Knative manifest: MLServer and MLflow's own server on a model
that the trainer step has trained, and FuseML's own on a file of ONNX.

`FUSEML_MLSERVER` is the Python of an environment with mlserver and mlserver-mlflow, which need an older Python and other packages, `FUSEML_ONNX` that of
one with onnx, onnxruntime and mlflow.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import application
from fuseml.servings import Revision, ServingSpec, knative
from fuseml.servings.knative import render
from fuseml.steps import carried, model_digest
from tests import commands, waiting
from tests.component import steps
from tests.component.conftest import Trained

MLSERVER = os.environ.get("FUSEML_MLSERVER", "")
ONNX = os.environ.get("FUSEML_ONNX", "")
PYTHONS = [
    pytest.param("mlflow", sys.executable, id="mlflow"),
    pytest.param(
        "mlserver",
        MLSERVER,
        id="mlserver",
        marks=pytest.mark.skipif(not MLSERVER, reason="needs FUSEML_MLSERVER, a Python with mlserver and mlserver-mlflow"),
    ),
]
COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
ROW = dict.fromkeys(COLUMNS, 0.01)


def container(server: str, trained: Trained, digest: str = "") -> dict[str, Any]:
    """The container that Knative gets for the trained model."""
    model, tracking = trained.ended.outputs["mlflow-model-url"], trained.mlflow
    return rendered(model=model, tracking_uri=tracking, model_server=server, digest=digest or None)


def rendered(**fields: object) -> dict[str, Any]:
    """The container that Knative gets for an application."""
    document = application.Application.model_validate({"name": "diabetes", "type": "predictor", "workflow": "mlflow-e2e", **fields})
    spec = ServingSpec("diabetes", [Revision(1, document, "2026-11-20T10:00:00.000000Z")], {1: 100})
    body = render.service(spec, knative.Settings(image="ghcr.io/fuseml/model-server:v1", mlserver_image="ghcr.io/fuseml/mlserver:v1"), {})
    [found] = body["spec"]["template"]["spec"]["containers"]
    return dict(found)


@contextlib.contextmanager
def started(python: str, found: Mapping[str, Any], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A process of the container on this machine: the process, its address and its log. Packages are found as an image of a codeset has them."""
    carried.copy(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [*found["command"][1:], *found["args"]]
    # Isolated, Python would not look into the folder, which stands for that of the image's packages.
    local = {"-I": "-P", "0.0.0.0": "127.0.0.1", str(render.PORT): str(port)}
    variables = {item["name"]: item["value"] for item in found["env"]}
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **variables,
        "HOME": str(folder),
    }
    log = folder / "log"
    with log.open("wb") as output:
        command = [python, *(local.get(item, item) for item in arguments)]
        process = subprocess.Popen(command, env={**environment, "TMPDIR": str(folder)}, cwd=folder, stdout=output, stderr=output)
    try:
        yield process, f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        try:
            process.wait(waiting.PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def predicted(server: str, url: str) -> float:
    """The prediction for the row, by the protocol of the server, at the path of the application's predictions."""
    document = application.Application(name="diabetes", type="predictor", workflow="w", model_server=server)
    path = document.served(("mlserver", "mlflow")).path("diabetes")
    if server == "mlflow":
        rows = {"dataframe_split": {"columns": list(COLUMNS), "data": [list(ROW.values())]}}
        return float(steps.call(url + path, rows)["predictions"][0])
    columns = [{"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in ROW.items()]
    return float(steps.call(url + path, {"inputs": columns})["outputs"][0]["data"][0])


@pytest.mark.parametrize(("server", "python"), PYTHONS)
def test_a_trained_model_is_served_as_the_manifest_starts_it(server: str, python: str, trained: Trained, tmp_path: Path) -> None:
    found = container(server, trained)
    ready = found["readinessProbe"]["httpGet"]["path"]

    with started(python, found, tmp_path) as (process, url, log):
        waiting.wait_until_ready(process, lambda: waiting.answers(url + ready), server, log.read_text)
        answer = predicted(server, url)

    assert answer == pytest.approx(expected(), rel=1e-6)


def expected() -> float:
    """The prediction of the same model by scikit-learn alone."""
    import pandas
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import train_test_split

    measurements, progression = load_diabetes(return_X_y=True, as_frame=True)
    x_train, _, y_train, _ = train_test_split(measurements, progression, test_size=0.25, random_state=42)
    return float(Ridge(alpha=1.0).fit(x_train, y_train).predict(pandas.DataFrame([ROW]))[0])


@pytest.mark.skipif(not MLSERVER, reason="needs FUSEML_MLSERVER, a Python with mlserver and mlserver-mlflow")
def test_changed_files_are_not_served(trained: Trained, tmp_path: Path) -> None:
    with started(MLSERVER, container("mlserver", trained, "sha256:" + "0" * 64), tmp_path) as (process, _, log):
        assert process.wait(waiting.PATIENCE) == 1
    assert "were changed: their digest is" in log.read_text()


def test_a_server_that_is_not_installed_is_named(tmp_path: Path) -> None:
    ended = commands.run(
        [*steps.command("other_server"), "--server", "mlserver", "--model", "models:/m/1", "--name", "m"],
        environment=steps.BARE,
        code=1,
    )
    assert "the environment of the model has no mlserver and mlserver-mlflow: add it to the codeset's requirements" in ended.stderr


ADD_ONE = """
import pathlib, sys
from onnx import TensorProto, checker, helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])
one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "add-one", [x], [y], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model)
pathlib.Path(sys.argv[1]).write_bytes(model.SerializeToString())
"""


@pytest.mark.skipif(not ONNX, reason="needs FUSEML_ONNX, a Python with onnx, onnxruntime, mlflow, starlette and uvicorn")
def test_a_file_of_onnx_is_served_with_its_tensors(tmp_path: Path) -> None:
    file, folder = tmp_path / "add.onnx", tmp_path / "server"
    folder.mkdir()
    commands.run([ONNX, "-c", ADD_ONE, str(file)])
    found = rendered(model=str(file), format="onnx", digest=model_digest.of_folder(file))

    with started(ONNX, found, folder) as (process, url, log):
        waiting.wait_until_ready(process, lambda: waiting.answers(f"{url}/v2/health/ready"), "the model server", log.read_text)
        metadata = steps.call(f"{url}/v2/models/diabetes")
        answer = steps.call(
            f"{url}/v2/models/diabetes/infer", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.5]}]}
        )

    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.5]}]
