"""The shipped gate, batch and matrix workflows on the embedded server.

A first model is served, a worse one asks, the served one scores and explains, and the best of a matrix is found.
"""

from __future__ import annotations

import functools
import importlib.resources
import pathlib
import shutil
from typing import Any

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

EXAMPLES = importlib.resources.files("fuseml") / "examples"
APP = "demo-diabetes-gated"


def steps_of(run: dict[str, Any]) -> dict[str, Any]:
    return {step["name"]: step for step in run["steps"]}


def run_of(server: servers.Server, name: str) -> dict[str, Any] | None:
    """The run; None before it exists."""
    response = server.call("GET", f"/runs/{name}")
    return dict(response.json) if response.status == 200 else None


def wait_for_steps(server: servers.Server, name: str, *steps: str) -> None:
    """Wait for the steps of a run, one after the other: each imports MLflow, which takes long on a busy machine."""

    def has_ended(step: str) -> bool:
        run = run_of(server, name)
        return run is not None and steps_of(run)[step]["finished"] is not None

    for step in steps:
        wait_until(functools.partial(has_ended, step), f"{step} of {name}")


def waiting(server: servers.Server, name: str) -> dict[str, Any] | None:
    """The run, once it waits for an approval."""
    run = run_of(server, name)
    return run if run is not None and run["state"] == "waiting" else None


def test_a_worse_model_is_served_after_an_approval_only(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home") as server:
        server.tracking_ready()
        server.fuseml("extension", "discover", "--apply")
        registration = server.post("/codesets?project=demo&name=diabetes")
        checkout = servers.Checkout(tmp_path / "code", registration["codeset"]["url"], registration["username"], registration["password"])
        shutil.copytree(str(EXAMPLES / "codesets" / "sklearn-diabetes"), checkout.folder, dirs_exist_ok=True)
        checkout.push("train")
        for name in ("mlflow-gate", "mlflow-batch", "mlflow-matrix"):
            server.post("/workflows", raw=(EXAMPLES / "workflows" / f"{name}.yaml").read_bytes())
        server.post("/workflows/assignments?name=mlflow-gate&codesetProject=demo&codesetName=diabetes")
        wait_for_steps(server, "mlflow-gate-1", "trainer", "evaluator")
        first = server.finished_run("mlflow-gate-1")
        assert (first["state"], first["cause"]) == ("succeeded", None)
        assert (steps_of(first)["evaluator"]["outputs"]["passed"], steps_of(first)["predictor"]["approval"]) == ("true", None)
        log = server.call("GET", "/runs/mlflow-gate-1/logs/evaluator").body.decode()
        assert f"no application '{APP}' of this codeset is served yet, so there is nothing to compare with" in log
        assert "MLflow run " in log

        manifest = checkout.folder / "MLproject"
        manifest.write_text(manifest.read_text().replace("default: 0.1", "default: 1"))
        checkout.push("regularise more")
        wait_for_steps(server, "mlflow-gate-2", "trainer", "evaluator")
        second = wait_until(lambda: waiting(server, "mlflow-gate-2"), "the question")
        assert second is not None
        question = steps_of(second)["predictor"]["approval"]["message"]
        assert question == (
            "rmse is 56.8653, and that of the served model 54.1443 (tolerance 0). Serve models:/sklearn-diabetes/2 nevertheless?"
        )
        assert server.get(f"/applications/{APP}")["model"] == "models:/sklearn-diabetes/1"
        server.post("/runs/mlflow-gate-2/approve", {"comment": "more robust"})
        assert server.finished_run("mlflow-gate-2")["state"] == "succeeded"
        assert server.get(f"/applications/{APP}")["model"] == "models:/sklearn-diabetes/2"

        _check_batch(server)
        _check_explanation(server)
        _check_matrix(server)


def _check_batch(server: servers.Server) -> None:
    inputs = ("-i", "model=models:/sklearn-diabetes/2", "-p", "demo", "-c", "diabetes")
    server.fuseml("workflow", "run", "mlflow-batch", *inputs, "--wait")
    outputs = server.get("/runs/mlflow-batch-1")["outputs"]
    assert outputs == {"dataset": "scored.csv", "rows": "60"}


def _check_explanation(server: servers.Server) -> None:
    metadata = server.get(f"/apps/{APP}/v2/models/{APP}")
    inputs = [{"name": field["name"], "shape": [2], "datatype": field["datatype"], "data": [0.01, 0.02]} for field in metadata["inputs"]]
    explained = server.post(f"/apps/{APP}/v2/models/{APP}/explain", {"inputs": inputs})
    predicted = server.post(f"/apps/{APP}/v2/models/{APP}/infer", {"inputs": inputs})["outputs"][0]["data"]
    tensors = {item["name"]: item for item in explained["outputs"]}
    assert tensors["features"]["data"] == [field["name"] for field in inputs]
    rows = [tensors["contributions"]["data"][:10], tensors["contributions"]["data"][10:]]
    assert [sum(row) + base for row, base in zip(rows, tensors["base"]["data"], strict=True)] == pytest.approx(predicted)


def _check_matrix(server: servers.Server) -> None:
    server.fuseml("workflow", "run", "mlflow-matrix", "-p", "demo", "-c", "diabetes", "--until", "trainer", "--wait")
    run = server.get("/runs/mlflow-matrix-1")
    steps = steps_of(run)
    assert list(steps) == ["builder", "trainer-1", "trainer-2", "trainer-3", "trainer"]
    combinations = {name: step["combination"] for name, step in steps.items() if step["combination"]}
    assert [item["values"] for item in combinations.values()] == [{"alpha": "0.01"}, {"alpha": "0.1"}, {"alpha": "1"}]
    errors = {name: item["metrics"]["rmse"] for name, item in combinations.items()}
    assert len(set(errors.values())) == 3
    best = min(errors, key=errors.__getitem__)
    assert [name for name, item in combinations.items() if item["best"]] == [best]
    assert steps["trainer"]["outputs"] == {**steps[best]["outputs"], "best": best}
    assert run["outputs"] == {"model": steps[best]["outputs"]["model"]}
    assert len({steps[name]["outputs"]["model"] for name in combinations}) == 3
    table = server.fuseml("run", "get", "mlflow-matrix-1").stdout.partition("Results of trainer:")[2]
    assert [line.split()[0] for line in table.splitlines() if line.split()[-1:] == ["yes"]] == [best]
    assert f"{best} is the best: its rmse" in server.call("GET", "/runs/mlflow-matrix-1/logs/trainer").body.decode()
