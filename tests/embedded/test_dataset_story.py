"""A push changes data that DVC tracks: the new version starts the training on it, and the model its serving, with lineage to data and code.

The data is added by the real DVC where it is there (FUSEML_DVC, or on the path), else by files in its format.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests import commands
from tests.embedded import servers
from tests.waiting import wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

EXAMPLE = importlib.resources.files("fuseml") / "examples" / "codesets" / "sklearn-diabetes"
DVC = os.environ.get("FUSEML_DVC") or shutil.which("dvc")
TRACKING = """
      - {name: mlflow-tracking, product: mlflow, service_resource: mlflow-tracking}"""
TRAIN = f"""
name: train
on:
  patterns: ["dataset://demo/*"]
inputs:
  - {{name: code, type: codeset}}
  - {{name: data, type: dataset}}
outputs:
  - {{name: model, type: model}}
steps:
  - name: builder
    image: ghcr.io/fuseml/mlflow-builder:v1
    inputs:
      - {{name: code, codeset: {{name: "{{{{ inputs.code }}}}"}}}}
    outputs:
      - name: image
  - name: trainer
    image: "{{{{ steps.builder.outputs.image }}}}"
    inputs:
      - {{name: code, codeset: {{name: "{{{{ inputs.code }}}}"}}}}
      - {{name: table, artifact: {{address: "{{{{ inputs.data }}}}", path: /table}}}}
    outputs:
      - name: model
      - name: metrics
    extensions: {TRACKING}
      - {{name: model-store, product: mlflow, service_category: model-store}}
"""
SERVE = f"""
name: serve
on:
  patterns: ["model://demo/*"]
inputs:
  - {{name: model, type: model}}
steps:
  - name: predictor
    image: ghcr.io/fuseml/predictor:v1
    inputs:
      - {{name: model, value: "{{{{ inputs.model }}}}"}}
    outputs:
      - name: prediction-url
    extensions: {TRACKING}
      - {{name: prediction-serving, service_category: prediction-serving}}
"""
PROGRAM = """
import os, pathlib

import mlflow
import pandas
from sklearn.linear_model import LinearRegression

table = pandas.read_csv(pathlib.Path(os.environ["FUSEML_TABLE"]) / "rows.csv")
with mlflow.start_run():
    model = LinearRegression().fit(table[["x"]], table["y"])
    mlflow.log_metric("slope", float(model.coef_[0]))
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=mlflow.models.infer_signature(table[["x"]], model.predict(table[["x"]])),
        registered_model_name="line",
        pip_requirements="requirements.txt",
    )
"""


class Data:
    """The data set `data/rows.csv` of a checkout, and the folder that is its remote of DVC."""

    def __init__(self, folder: pathlib.Path, remote: pathlib.Path) -> None:
        self._folder, self._remote = folder, remote
        (folder / "data").mkdir()
        if DVC:
            self._run("init", "--quiet")
            self._run("remote", "add", "--quiet", "--default", "store", str(remote))
        else:
            (folder / ".dvc").mkdir()
            (folder / ".dvc" / "config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {remote}\n")

    def _run(self, *arguments: str) -> None:
        environment = {**servers.GIT_ENVIRONMENT, "HOME": str(self._remote.parent), "DVC_NO_ANALYTICS": "1"}
        commands.run([str(DVC), *arguments], environment, cwd=self._folder)

    def write(self, slope: int) -> str:
        """Track rows on a line, and push them to the remote; the address of the version."""
        text = "x,y\n" + "".join(f"{x}.0,{slope * x}.0\n" for x in range(1, 9))
        value = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        (self._folder / "data" / "rows.csv").write_text(text)
        if DVC:
            self._run("add", "--quiet", "data/rows.csv")
            self._run("push", "--quiet")
        else:
            (self._folder / "data" / ".gitignore").write_text("/rows.csv\n")
            named = f"outs:\n- md5: {value}\n  size: {len(text)}\n  hash: md5\n  path: rows.csv\n"
            (self._folder / "data" / "rows.csv.dvc").write_text(named)
            place = self._remote / "files" / "md5" / value[:2] / value[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return f"dataset://demo/line/data/rows.csv/{value}"


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[servers.Server]:
    with servers.running(tmp_path / "home") as running:
        yield running


def register_mlflow(server: servers.Server) -> None:
    server.tracking_ready()
    url = server.get("/readyz")["components"]["mlflow"]["url"]
    tracking = {"url": url, "type": "internal", "configuration": {"MLFLOW_TRACKING_URI": url}}
    store = {"url": f"{url}/api/2.0/mlflow-artifacts", "type": "internal"}
    services = [
        {"id": "tracking", "resource": "mlflow-tracking", "category": "experiment-tracking", "endpoints": [tracking]},
        {"id": "store", "resource": "mlflow-artifacts", "category": "model-store", "endpoints": [store]},
    ]
    server.post("/extensions", {"id": "mlflow", "product": "mlflow", "services": services})


def register_dvc(server: servers.Server, remote: pathlib.Path) -> None:
    remote.mkdir()
    endpoint = {"url": remote.as_uri(), "configuration": {"FUSEML_GIT_URL": (server.home / "git").as_uri()}}
    service = {"id": "store", "resource": "dvc", "category": "artifact-store", "endpoints": [endpoint]}
    server.post("/extensions", {"id": "data", "product": "dvc", "services": [service]})


def runs(server: servers.Server, workflow: str) -> list[dict[str, Any]]:
    """The oldest first."""
    return list(reversed(server.get(f"/runs?workflow={workflow}")))


def expect_model(server: servers.Server, number: int, dataset: str, commit: str, slope: int) -> None:
    """The run of that number has trained the model of that version on the data with the code, and it is served."""
    run = server.finished_run(f"train-{number}")
    assert (run["state"], run["commit"]) == ("succeeded", commit), run["cause"]
    assert run["inputs"] == {"code": f"code://demo/line/{commit}", "data": dataset}
    model = f"model://demo/line/{number}"
    assert server.get("/artifacts?name=line&kind=model")[-1]["address"] == model
    assert server.get(f"/artifacts?run=train-{number}")[0]["metrics"] == {"slope": pytest.approx(slope)}
    near = server.get(f"/lineage/model/demo/line/{number}?direction=up")
    edges = {(edge["source"], edge["target"]) for edge in near["edges"]}
    assert edges == {(f"code://demo/line/{commit}", dataset), (dataset, model), (f"code://demo/line/{commit}", model)}

    served = server.finished_run(f"serve-{number}")
    assert served["state"] == "succeeded", served["cause"]
    [application] = server.get("/applications")
    assert application["model"] == f"models:/line/{number}"
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [10.0]}]}
    name = application["name"]
    answer = server.post(f"/apps/{name}/v2/models/{name}/infer", body)
    assert answer["outputs"][0]["data"] == [pytest.approx(10 * slope)]


def test_pushed_data_starts_training_and_the_model_its_serving(server: servers.Server, tmp_path: pathlib.Path) -> None:
    register_mlflow(server)
    register_dvc(server, tmp_path / "remote")
    for document in (TRAIN, SERVE):
        server.post("/workflows", raw=document.encode())
    registration = server.post("/codesets?project=demo&name=line")
    checkout = servers.Checkout(tmp_path / "code", registration["codeset"]["url"], registration["username"], registration["password"])
    for name in ("MLproject", "python_env.yaml", "requirements.txt"):
        (checkout.folder / name).write_text((EXAMPLE / name).read_text())
    manifest = checkout.folder / "MLproject"
    manifest.write_text(manifest.read_text().replace("python train.py --alpha {alpha}", "python train.py"))
    (checkout.folder / "train.py").write_text(PROGRAM)
    data = Data(checkout.folder, tmp_path / "remote")

    first = data.write(slope=2)
    commit = checkout.push("a line")
    expect_model(server, 1, first, commit, slope=2)

    # Only the data.
    second = data.write(slope=3)
    commit = checkout.push("a steeper line")
    expect_model(server, 2, second, commit, slope=3)
    tree = server.fuseml("artifact", "lineage", "model://demo/line/2").stdout
    assert second in tree
    assert f"code://demo/line/{commit[:12]}" in tree
    [dataset] = json.loads(server.fuseml("artifact", "list", "--kind", "dataset", "-p", "demo", "-o", "json").stdout)[-1:]
    assert dataset["format"] == "dvc"

    # Only the code, and a return of the data: no new version, no run.
    (checkout.folder / "README.md").write_text("# a line\n")
    checkout.push("words")
    data.write(slope=2)
    returned = checkout.push("back")
    wait_until(lambda: f"code://demo/line/{returned}" in [item["address"] for item in server.get("/artifacts?kind=code")], "the push")
    server.kill()
    server.start()
    third = data.write(slope=5)
    server.tracking_ready()
    commit = checkout.push("a third line")
    expect_model(server, 3, third, commit, slope=5)
    assert [run["name"] for run in runs(server, "train")] == ["train-1", "train-2", "train-3"]

    # On a remote that is not the store's: the reason is on record.
    text = (checkout.folder / ".dvc" / "config").read_text()
    (checkout.folder / ".dvc" / "config").write_text(text.replace(str(tmp_path / "remote"), "s3://elsewhere/data"))
    moved = checkout.push("elsewhere")
    why = "is not the one of the store's record"
    wait_until(lambda: why in " ".join(server.fuseml("why", moved).stdout.split()), "the reason")

    pulled = tmp_path / "pulled"
    server.fuseml("artifact", "pull", first, "--to", pulled)
    assert (pulled / "rows.csv").read_text().startswith("x,y\n1.0,2.0\n")
