"""A model that the built-in steps train and register is served by KServe or Seldon Core 1 on a real cluster, and a new training replaces it.

The steps are processes here, with an MLflow server that keeps its files in a bucket; the function `applications` serves by the tool. The runtimes
of the tool serve models of MLflow by the protocol v2.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from functions.applications.app import create_app
from functions.applications.deps import Deps
from fuseml.runtime import auth
from tests import s3_servers, waiting
from tests.component import gitea, steps
from tests.contract import servings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

TOKEN = "t"
OPTIONS: dict[str, dict[str, str]] = {
    "real kserve": {},
    "real kserve standard": {"FUSEML_SERVING_MODE": "Standard"},
    "real seldon core 1": {},
}


@dataclass(frozen=True)
class Steps:
    """The steps, the variables of their bindings, and the folder of the codeset."""

    variables: dict[str, str]
    folder: Path

    def train(self, alpha: str) -> str:
        """The address of a new version of the model."""
        ended = steps.run("mlflow_trainer", self.folder, **self.variables, FUSEML_PARAMETERS=f"alpha={alpha}")
        assert ended.code == 0, ended.out + ended.err
        return ended.outputs["model"]

    def serve(self, model: str) -> str:
        """The address of predictions, once the step reports that the model answers there."""
        ended = steps.run("predictor", self.folder, **self.variables, FUSEML_MODEL=model, FUSEML_TIMEOUT=str(waiting.CLUSTER_PATIENCE))
        assert ended.code == 0, ended.out + ended.err
        return next(value for name, value in ended.outputs.items() if value.startswith("http"))


@pytest.fixture(params=OPTIONS)
def trained_by(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Steps]:
    (tmp_path / "serving").mkdir()
    with servings.SERVINGS[request.param](tmp_path / "serving") as under_test:
        tokens = auth.Tokens({auth.digest_of(TOKEN): auth.Caller("admin", "admin")})
        resource = under_test.fields["served_by"]
        deps = Deps(store=under_test.store, tokens=tokens, keyring=under_test.keyring, serving={resource: under_test.serving})
        with tracking_server(tmp_path, under_test.environment) as tracking, gitea.listening(create_app(deps)) as api:
            variables = {
                **under_test.environment,
                **OPTIONS[request.param],
                "MLFLOW_TRACKING_URI": tracking,
                "FUSEML_API_URL": f"http://127.0.0.1:{api.port}",
                "FUSEML_API_TOKEN": TOKEN,
                "FUSEML_SERVING": resource,
                # Short: KServe makes a host name of it and the namespace.
                "FUSEML_APP_NAME": "diabetes",
            }
            folder = tmp_path / "diabetes"
            shutil.copytree(steps.EXAMPLE, folder)
            yield Steps(variables, folder)
            under_test.clear()


@contextlib.contextmanager
def tracking_server(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """An MLflow server whose clients keep the files in the bucket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--no-serve-artifacts",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", f"s3://{s3_servers.BUCKET}/runs"]
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(command, env={**steps.BARE, **environment}, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        waiting.wait_until_ready(process, lambda: waiting.answers(f"{url}/health"), "MLflow", (folder / "mlflow.log").read_text)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(waiting.PATIENCE)


def predict(url: str) -> float:
    """The prediction for the first row of the data, by a connection of its own: an open one leads to the former pod while that ends."""
    from sklearn.datasets import load_diabetes

    row = load_diabetes(as_frame=True).data.iloc[:1]
    inputs = [{"name": name, "datatype": "FP64", "shape": [1, 1], "data": [float(row[name].iloc[0])]} for name in row.columns]
    body = {"parameters": {"content_type": "pd"}, "inputs": inputs}
    answer = urllib3.request("POST", url, json=body, headers={"Connection": "close"}, timeout=waiting.PATIENCE, retries=False)
    assert answer.status == 200, answer.data
    return float(json.loads(answer.data)["outputs"][0]["data"][0])


def test_a_model_that_the_steps_trained_is_served_and_the_next_one_replaces_it(trained_by: Steps) -> None:
    url = trained_by.serve(trained_by.train("0.1"))
    first = predict(url)
    assert trained_by.serve(trained_by.train("2.5")) == url
    second = predict(url)
    assert second != pytest.approx(first)
