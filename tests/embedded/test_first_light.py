"""The main job on real input: a push becomes a served model, and the next push replaces it without a failed request."""

from __future__ import annotations

import functools
import importlib.resources
import json
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.embedded import servers
from tests.waiting import PATIENCE, wait_until

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")

EXAMPLES = importlib.resources.files("fuseml") / "examples"
APP = "demo-diabetes-mlflow-e2e"
INFER = f"/apps/{APP}/v2/models/{APP}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("light") / "home") as running:
        yield running


def _register_mlflow(server: servers.Server) -> str:
    server.tracking_ready()
    url: str = server.get("/readyz")["components"]["mlflow"]["url"]
    tracking = {"url": url, "type": "internal", "configuration": {"MLFLOW_TRACKING_URI": url}}
    store = {"url": f"{url}/api/2.0/mlflow-artifacts", "type": "internal"}
    services = [
        {"id": "tracking", "resource": "mlflow-tracking", "category": "experiment-tracking", "endpoints": [tracking]},
        {"id": "store", "resource": "mlflow-artifacts", "category": "model-store", "endpoints": [store]},
    ]
    server.post("/extensions", {"id": "mlflow", "product": "mlflow", "version": "3.17.2", "services": services})
    return url


def reference_model(alpha: float) -> tuple[dict[str, float], list[list[float]], list[float]]:
    """The same model by scikit-learn alone: its metrics, some rows and their predictions."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score, root_mean_squared_error
    from sklearn.model_selection import train_test_split

    measurements, progression = load_diabetes(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(measurements, progression, test_size=0.25, random_state=42)
    model = Ridge(alpha=alpha).fit(x_train, y_train)
    predicted = model.predict(x_test)
    metrics = {"r2": float(r2_score(y_test, predicted)), "rmse": float(root_mean_squared_error(y_test, predicted))}
    return metrics, x_test.head(5).to_numpy().tolist(), [float(value) for value in predicted[:5]]


def _predict(server: servers.Server, rows: list[list[float]]) -> list[float]:
    metadata = server.get(f"/apps/{APP}/v2/models/{APP}")
    columns = [
        {"name": column["name"], "shape": [len(rows)], "datatype": column["datatype"], "data": [row[index] for row in rows]}
        for index, column in enumerate(metadata["inputs"])
    ]
    response = server.post(INFER, {"inputs": columns})
    return [float(value) for value in response["outputs"][0]["data"]]


def _check_run(server: servers.Server, name: str, commit: str, alpha: float, version: str) -> dict[str, Any]:
    run = server.finished_run(name)
    assert (run["state"], run["cause"], run["commit"]) == ("succeeded", None, commit)
    steps = {step["name"]: step for step in run["steps"]}
    metrics, rows, predictions = reference_model(alpha)
    assert json.loads(steps["trainer"]["outputs"]["metrics"]) == pytest.approx(metrics)
    assert steps["trainer"]["outputs"]["model"] == f"models:/sklearn-diabetes/{version}"
    assert run["outputs"] == {"prediction-url": server.url + INFER}
    assert _predict(server, rows) == pytest.approx(predictions)
    return run


def test_a_push_becomes_a_served_model_and_the_next_push_replaces_it(server: servers.Server, tmp_path: pathlib.Path) -> None:
    mlflow_url = _register_mlflow(server)
    registration = server.post("/codesets?project=demo&name=diabetes")
    checkout = servers.Checkout(tmp_path / "code", registration["codeset"]["url"], registration["username"], registration["password"])
    shutil.copytree(str(EXAMPLES / "codesets" / "sklearn-diabetes"), checkout.folder, dirs_exist_ok=True)
    first = checkout.push("train")
    server.post("/workflows", raw=(EXAMPLES / "workflows" / "mlflow-e2e.yaml").read_bytes())
    server.post("/workflows/assignments?name=mlflow-e2e&codesetProject=demo&codesetName=diabetes")

    run = _check_run(server, "mlflow-e2e-1", first, 0.1, "1")

    bindings = {(binding["step"], binding["name"]): binding for binding in run["bindings"]}
    assert bindings["trainer", "mlflow-tracking"]["url"] == mlflow_url
    assert bindings["predictor", "prediction-serving"]["configuration"]["FUSEML_API_TOKEN"] == "<step token>"
    log = server.call("GET", "/runs/mlflow-e2e-1/logs/trainer")
    assert log.headers["fuseml-log-complete"] == "true"
    assert b"sklearn-diabetes" in log.body
    with _Poller(server) as observed:
        manifest = checkout.folder / "MLproject"
        manifest.write_text(manifest.read_text().replace("default: 0.1", "default: 2.5"))
        second = checkout.push("regularise more")
        _check_run(server, "mlflow-e2e-2", second, 2.5, "2")
    assert observed.statuses == {200}
    assert observed.models == ["models:/sklearn-diabetes/1", "models:/sklearn-diabetes/2"]
    _check_artifacts(server, first, second)
    _check_the_model_events(server)
    _check_a_model_that_cannot_be_loaded(server)
    _check_rollback(server)
    _check_an_alias_that_moves(server, mlflow_url)


def _check_a_model_that_cannot_be_loaded(server: servers.Server) -> None:
    application = server.get(f"/applications/{APP}")
    spec = {key: value for key, value in application.items() if key not in servers.OBSERVED}
    server.post("/applications", {**spec, "model": "models:/sklearn-diabetes/99"})

    wait_until(lambda: server.get(f"/apps/{APP}")["failed"], "the replacement to fail")

    assert "models:/sklearn-diabetes/99" in server.get(f"/apps/{APP}")["failed"]
    assert server.get(f"/apps/{APP}/v2/models/{APP}")["parameters"]["model_uri"] == "models:/sklearn-diabetes/2"


def _check_rollback(server: servers.Server) -> None:
    application = server.get(f"/applications/{APP}")
    assert (application["status"], application["revision"]) == ("failed", 3)
    assert "models:/sklearn-diabetes/99" in application["cause"]
    for revision in (2, 1):
        rolled = json.loads(server.fuseml("application", "rollback", APP, "-o", "json").stdout)
        model = f"models:/sklearn-diabetes/{revision}"
        assert rolled["traffic"] == rolled["answering"] == [{"revision": revision, "percent": 100, "model": model}]
        assert rolled["status"] == "ready"
        # At once, by the first request since then.
        assert server.get(f"/apps/{APP}/v2/models/{APP}")["parameters"]["model_uri"] == model
        (listed,) = server.get("/applications")
        assert (listed["status"], listed["answering"]) == ("ready", rolled["answering"])
    refused = server.call("PUT", f"/applications/{APP}/traffic", {"traffic": {"1": 50, "2": 50}})
    assert (refused.status, b"one revision at a time" in refused.body) == (400, True)


def _check_an_alias_that_moves(server: servers.Server, mlflow_url: str) -> None:
    alias = {"name": "sklearn-diabetes", "alias": "champion"}
    pool, account = urllib3.PoolManager(retries=False), {"Authorization": f"Bearer {server.token}"}
    spec = {key: value for key, value in server.get(f"/applications/{APP}").items() if key not in servers.OBSERVED}
    for version in ("1", "2"):
        body = {**alias, "version": version}
        moved = pool.request("POST", f"{mlflow_url}/api/2.0/mlflow/registered-models/alias", json=body, headers=account, timeout=PATIENCE)
        assert moved.status == 200, moved.data
        if version == "1":
            server.post("/applications", {**spec, "model": "models:/sklearn-diabetes@champion", "digest": None, "follow": True})
        model = f"models:/sklearn-diabetes/{version}"
        wait_until(functools.partial(_serves, server, model), "the version of the alias")
    followed = server.get(f"/applications/{APP}")
    assert (followed["requested"], followed["follow"], followed["behind"]) == ("models:/sklearn-diabetes@champion", True, None)
    assert followed["digest"].startswith("sha256:")


def _serves(server: servers.Server, model: str) -> bool:
    recorded = server.get(f"/applications/{APP}")["model"]
    return bool(recorded == model == server.get(f"/apps/{APP}/v2/models/{APP}")["parameters"]["model_uri"])


def _check_artifacts(server: servers.Server, first: str, second: str) -> None:
    artifacts = {artifact["address"]: artifact for artifact in server.get("/artifacts?project=demo")}
    assert set(artifacts) == {
        f"code://demo/diabetes/{first}",
        f"code://demo/diabetes/{second}",
        "model://demo/sklearn-diabetes/1",
        "model://demo/sklearn-diabetes/2",
    }
    model = artifacts["model://demo/sklearn-diabetes/2"]
    assert (model["run"], set(model["metadata"]["metrics"])) == ("mlflow-e2e-2", {"r2", "rmse"})
    edges = server.get("/lineage?address=model://demo/sklearn-diabetes/2")
    made = {"target": "model://demo/sklearn-diabetes/2", "run": "mlflow-e2e-2", "step": "trainer"}
    assert edges == [{"source": f"code://demo/diabetes/{second}", **made}]
    assert (model["format"], model["metrics"], model["digest"]) == ("mlflow", model["metadata"]["metrics"], model["metadata"]["digest"])


def _check_the_model_events(server: servers.Server) -> None:
    # MLflow also published both versions by signed webhooks; they name the same artifacts, which are recorded once.
    assert [artifact["address"] for artifact in server.get("/artifacts?kind=model")] == [
        "model://demo/sklearn-diabetes/1",
        "model://demo/sklearn-diabetes/2",
    ]
    model = server.get("/artifacts?name=sklearn-diabetes")[0]
    wait_until(lambda: "extension" in server.get("/artifacts?name=sklearn-diabetes")[0]["metadata"], f"the webhook about {model}")


class _Observations:
    def __init__(self) -> None:
        self.statuses: set[int | str] = set()
        self.models: list[str] = []


class _Poller:
    """Polls the application for its model in a thread."""

    def __init__(self, server: servers.Server) -> None:
        self._url, self._token = f"{server.url}/apps/{APP}/v2/models/{APP}", server.token
        self._stop, self._observations = threading.Event(), _Observations()
        self._thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        pool = urllib3.PoolManager(retries=False)
        while not self._stop.wait(0.02):
            try:
                response = pool.request("GET", self._url, headers={"Authorization": f"Bearer {self._token}"}, timeout=PATIENCE)
            except urllib3.exceptions.HTTPError as error:
                self._observations.statuses.add(repr(error))
                continue
            self._observations.statuses.add(response.status)
            model = response.json().get("parameters", {}).get("model_uri")
            if not self._observations.models or self._observations.models[-1] != model:
                self._observations.models.append(model)

    def __enter__(self) -> _Observations:
        self._thread.start()
        return self._observations

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
