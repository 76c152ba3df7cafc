"""Applications on a real cluster: create, call, replace under load, split traffic, roll back, scale to zero, delete.

FUSEML_TEST_IMAGE_SERVING is an image with the model server. Pods load their models from this process at FUSEML_TEST_HOST (`host.local`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3
from flask.testing import FlaskClient

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml.domain import application
from fuseml.runtime import auth, secrets
from fuseml.servings import knative
from fuseml.store import database
from tests import commands
from tests.contract import on_cluster
from tests.images import image
from tests.waiting import PATIENCE, answers, wait_until_ready

from .deployment import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

HOST = os.environ.get("FUSEML_TEST_HOST", "host.local")
NAME = "tiny"
POOL = urllib3.PoolManager(maxsize=4, retries=False)
# Two versions with different predictions.
TRAIN = """
import mlflow, numpy, sys
from sklearn.dummy import DummyRegressor
mlflow.set_tracking_uri(sys.argv[1])
x = numpy.array([[0.0], [1.0]])
for answer in (1.0, 2.0):
    with mlflow.start_run():
        model = DummyRegressor(strategy="constant", constant=answer).fit(x, [0.0, 1.0])
        mlflow.sklearn.log_model(model, name="model", registered_model_name="tiny", input_example=x)
"""
ROW = json.dumps({"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 1], "data": [0.5]}]})


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, as seen by pods, of an MLflow server with the models."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", str(port), "--workers", "1"),
        *(
            "--allowed-hosts",
            "*",
            "--backend-store-uri",
            f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination",
            str(folder / "artifacts"),
        ),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env={**bare, "MLFLOW_DISABLE_TELEMETRY": "true"}, stdout=log, stderr=log, start_new_session=True)
    try:
        here = f"http://127.0.0.1:{port}"
        wait_until_ready(server, lambda: answers(f"{here}/health"), "MLflow", (folder / "log").read_text)
        commands.python(TRAIN, here, environment=bare)
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(PATIENCE)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with on_cluster.own_namespace("serving") as (name, _):
        yield name


@dataclass
class Fuseml:
    """The function `applications` with its serving."""

    client: FlaskClient
    serving: knative.KnativeServing
    namespace: str
    tracking: str

    def call(self, method: str, path: str, document: object = None) -> Any:
        response = self.client.open(path, method=method, json=document, headers={"Authorization": "Bearer t"})
        assert response.status_code < 300, response.text
        return response.json

    def register(self, version: int) -> Any:
        return self.call(
            "POST",
            "/applications",
            {
                "name": NAME,
                "type": "predictor",
                "workflow": "w",
                "project": "demo",
                "run": f"w-{version}",
                "model": f"models:/tiny/{version}",
                "tracking_uri": self.tracking,
                "environment": {"MLFLOW_TRACKING_TOKEN": f"secret-{version}"},
            },
        )

    def application(self) -> Any:
        return self.call("GET", f"/applications/{NAME}")

    def wait_for(self, status: str) -> float:
        return wait_until(lambda: self.application()["status"] == status, lambda: f"{status}: {self.application()}")


@pytest.fixture(scope="module")
def fuseml(namespace: str, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuseml]:
    store = database.Database(f"sqlite:///{tmp_path_factory.mktemp('db')}/fuseml.db")
    store.migrate()
    cluster = knative.Cluster(namespace)
    serving = knative.KnativeServing(cluster, knative.Settings(image=image("SERVING"), timeout=60, retention="0s", patience=60, cpu="25m"))
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    deps = Deps(store=store, tokens=tokens, keyring=secrets.Keyring([secrets.new_key()]), serving={application.BUILT_IN: serving})
    with contextlib.closing(store), contextlib.closing(cluster):
        yield Fuseml(create_app(deps).test_client(), serving, namespace, tracking)


def predict(url: str, timeout: float = PATIENCE) -> tuple[int, Any]:
    response = POOL.request("POST", url, body=ROW, headers={"Content-Type": "application/json"}, retries=False, timeout=timeout)
    return response.status, json.loads(response.data)["outputs"][0]["data"][0] if response.status == 200 else response.data


@dataclass
class Client:
    """Sends requests continuously and collects the responses."""

    url: str
    responses: list[tuple[int, Any]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def _request(self) -> None:
        while not self.stopping.wait(0.05):
            try:
                self.responses.append(predict(self.url, 30))
            except urllib3.exceptions.HTTPError as error:
                self.responses.append((0, str(error)))

    @contextlib.contextmanager
    def requesting(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._request) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join()


def test_an_application_is_served_replaced_split_and_rolled_back(fuseml: Fuseml, capsys: pytest.CaptureFixture[str]) -> None:
    figures: list[str] = []

    # Create and call.
    created = fuseml.register(1)
    assert created["revision"] == 1
    figures.append(f"registered to ready {fuseml.wait_for('ready'):.1f} s")
    view = fuseml.application()
    assert view["environment"] == {"MLFLOW_TRACKING_TOKEN": "<hidden>"}
    assert view["k8s_namespace"] == fuseml.namespace
    assert [resource["kind"] for resource in view["k8s_resources"]] == ["Service.serving.knative.dev", "Secret"]
    assert view["url"].endswith(f"/v2/models/{NAME}/infer")
    assert predict(view["url"]) == (200, 1.0)

    # Replace under load.
    caller = Client(view["url"])
    with caller.requesting():
        fuseml.register(2)
        figures.append(f"replaced to ready {fuseml.wait_for('ready'):.1f} s")
        wait_until(lambda: caller.responses[-1] == (200, 2.0), "the new model answers")
        time.sleep(2)
    assert {response for response in caller.responses if response[0] != 200} == set()
    assert {value for _, value in caller.responses} == {1.0, 2.0}
    figures.append(f"{len(caller.responses)} requests meanwhile, none failed")

    # Split traffic and roll back.
    fuseml.call("PUT", f"/applications/{NAME}/traffic", {"traffic": {"current": 50, "previous": 50}})
    fuseml.wait_for("ready")
    wait_until(lambda: {predict(view["url"])[1] for _ in range(12)} == {1.0, 2.0}, "both answer")
    caller = Client(view["url"])
    with caller.requesting():
        rollback = fuseml.call("POST", f"/applications/{NAME}/rollback")
        assert [(share["revision"], share["percent"], share["model"]) for share in rollback["traffic"]] == [(1, 100, "models:/tiny/1")]
        figures.append(f"rolled back in {fuseml.wait_for('ready'):.1f} s")
        time.sleep(2)
    assert {response for response in caller.responses if response[0] != 200} == set()
    assert {predict(view["url"])[1] for _ in range(8)} == {1.0}

    # A model that cannot be loaded does not affect clients.
    fuseml.register(3)
    figures.append(f"broken model reported after {fuseml.wait_for('failed'):.1f} s")
    cause = fuseml.application()["cause"]
    assert "cannot load" in cause, cause
    assert predict(view["url"]) == (200, 1.0)
    fuseml.call("PUT", f"/applications/{NAME}/traffic", {"traffic": {"1": 100}})
    fuseml.wait_for("ready")

    with capsys.disabled():
        sys.stderr.write("\n" + "\n".join(figures) + "\n")


def test_an_application_scales_to_zero_and_starts_with_a_request(fuseml: Fuseml, capsys: pytest.CaptureFixture[str]) -> None:
    from kubernetes import client

    fuseml.register(2)
    fuseml.wait_for("ready")
    core = client.CoreV1Api()
    asleep = wait_until(
        lambda: not core.list_namespaced_pod(fuseml.namespace, label_selector=f"fuseml.io/application={NAME}").items, "no pods"
    )
    started = time.monotonic()
    assert predict(fuseml.application()["url"]) == (200, 2.0)
    with capsys.disabled():
        sys.stderr.write(f"\nscaled to zero after {asleep:.0f} s, answered from zero in {time.monotonic() - started:.1f} s\n")
    core.api_client.close()


def test_deleting_an_application_removes_all_its_objects(fuseml: Fuseml) -> None:
    from kubernetes import client

    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    services = ("serving.knative.dev", "v1", fuseml.namespace, "services")
    custom.delete_namespaced_custom_object(*services, NAME)
    assert fuseml.application()["status"] == "starting"
    fuseml.call("DELETE", f"/applications/{NAME}")
    assert custom.list_namespaced_custom_object(*services)["items"] == []
    assert [secret.metadata.name for secret in core.list_namespaced_secret(fuseml.namespace).items] == []
    fuseml.register(1)
    # After a crash between the cluster and the database, the sweep deletes objects without a record.
    fuseml.serving.reconcile([])
    assert custom.list_namespaced_custom_object(*services)["items"] == []
    core.api_client.close()
    custom.api_client.close()
