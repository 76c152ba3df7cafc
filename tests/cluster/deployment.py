"""FuseML as deployed by `task deploy` on a real cluster, with access by kubectl, HTTP and the CLI.

Requires KUBECONFIG, `kubectl`, `kn`, and access to the addresses of the cluster. The tests use an existing deployment (FUSEML_TOKEN is
the administrator's token); without one, they deploy FuseML with the images of `DEPLOYED` and remove it at the end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from fuseml.runtime import catalog, signing
from tests import commands, waiting
from tests.images import image
from tests.waiting import CLUSTER_PATIENCE, PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
DEPLOYED = {
    "FUNCTIONS": "--image",
    "POSTGRESQL": "--postgresql-image",
    "GITEA": "--gitea-image",
    "S3": "--s3-image",
    "GIT": "--git-image",
    "SERVING": "--serving-image",
    "TRAINER": "--trainer-image",
}
"""Image -> option of `task deploy`."""
REGISTRY = os.environ.get("CLUSTER_REGISTRY", "localhost:5000")
"""The registry of the cluster, which speaks plain HTTP. Built images stay there."""


def kubectl(*arguments: str, manifest: str | None = None) -> str:
    return commands.run(["kubectl", *arguments], text=manifest or "", patience=CLUSTER_PATIENCE).stdout


def signer() -> signing.Signer:
    """Signs events as the deployed functions do."""
    secret = json.loads(kubectl("get", "secret", "fuseml", "--namespace=fuseml", "--output=json"))
    keys = base64.b64decode(secret["data"]["FUSEML_EVENT_KEYS"]).decode().split(",")
    return signing.Signer(lambda: keys)


def resources(kind: str, *arguments: str, namespace: str = "fuseml") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", kind, f"--namespace={namespace}", "--output=json", *arguments))["items"]
    return items


def wait_until(condition: Callable[[], object], event: str | Callable[[], str], patience: float = CLUSTER_PATIENCE) -> float:
    """Wait as `tests.waiting` with the patience for a cluster; returns the elapsed seconds."""
    start = time.monotonic()
    waiting.wait_until(condition, event, patience=patience, interval=0.2)
    return time.monotonic() - start


def deploy(*arguments: str) -> str:
    """The output of `task deploy`."""
    return redeploy(*arguments).stdout


def redeploy(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `task deploy`; later arguments win over the images of the tests."""
    options = [f"{option}={image(name)}" for name, option in DEPLOYED.items()]
    environments = (f"--image-repository={REGISTRY}/fuseml-test/environments", f"--plain-registries={REGISTRY}")
    return _task("deploy", *options, *environments, *arguments, code=code)


def undeploy() -> None:
    """Run `task undeploy` and check that no object remains."""
    _task("undeploy", "--yes")
    assert "fuseml" not in kubectl("get", "namespaces,persistentvolumes,clusterroles,clusterrolebindings", "--output=name")
    # Tekton's own objects are restored: FuseML owns none of their fields.
    for name in ("config-events", "feature-flags"):
        config_map = json.loads(kubectl("get", "configmap", name, "--namespace=tekton-pipelines", "--output=json", "--show-managed-fields"))
        assert "fuseml" not in {field["manager"] for field in config_map["metadata"]["managedFields"]}, name


def _task(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return commands.run([sys.executable, "-m", "fuseml.deployment", *arguments], cwd=ROOT, patience=2 * CLUSTER_PATIENCE, code=code)


@dataclass(frozen=True)
class Deployment:
    url: str
    token: str
    home: pathlib.Path

    def get(self, path: str, *, token: str | None = None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return urllib3.request("GET", self.url + path, headers=headers, timeout=PATIENCE, retries=False)

    def read(self, path: str) -> Any:
        """The response of the API to the administrator. Skips the test without the token."""
        if not self.token:
            pytest.skip("needs FUSEML_TOKEN")
        response = self.get(path, token=self.token)
        assert response.status == 200, response.data
        return response.json()

    def post(self, path: str) -> None:
        """A request of the administrator that changes something."""
        headers = {"Authorization": f"Bearer {self.token}", catalog.CLIENT: "tests"}
        response = urllib3.request("POST", self.url + path, headers=headers, timeout=PATIENCE, retries=False)
        assert response.status < 300, response.data

    def predict(self, application: str, rows: list[list[float]]) -> list[float]:
        """The predictions of an application by the Open Inference Protocol, for rows of its columns."""
        url = self.read(f"/applications/{application}")["url"]
        model = urllib3.request("GET", url.removesuffix("/infer"), timeout=PATIENCE, retries=False).json()
        columns = [
            {"name": column["name"], "shape": [len(rows)], "datatype": column["datatype"], "data": [row[index] for row in rows]}
            for index, column in enumerate(model["inputs"])
        ]
        response = urllib3.request("POST", url, json={"inputs": columns}, timeout=PATIENCE, retries=False)
        assert response.status == 200, response.data
        return [float(value) for value in response.json()["outputs"][0]["data"]]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the CLI."""
        return {**os.environ, "FUSEML_SERVER_URL": self.url, "FUSEML_TOKEN": self.token, "FUSEML_HOME": str(self.home)}

    def fuseml(self, *arguments: str, code: int = 0, patience: float = CLUSTER_PATIENCE) -> str:
        """Run the CLI; returns its output."""
        if not self.token:
            pytest.skip("needs FUSEML_TOKEN")
        process = commands.fuseml("--timeout", f"{PATIENCE}", *arguments, environment=self.environment, code=code, patience=patience)
        return process.stdout + process.stderr


@contextlib.contextmanager
def running() -> Iterator[Deployment]:
    """FuseML on the cluster. Skips the test without a cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs KUBECONFIG of a cluster with Knative and Tekton")
    for program in ("kubectl", "kn"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")
    existing = kubectl("get", "namespace", "fuseml", "--ignore-not-found")
    output = "" if existing else deploy()
    token = os.environ.get("FUSEML_TOKEN", "") if existing else re.findall(r"FUSEML_TOKEN=(\S+)", output)[0]
    (gateway,) = [service for service in resources("ksvc") if service["metadata"]["name"] == "gateway"]
    with tempfile.TemporaryDirectory() as home:
        yield Deployment(gateway["status"]["url"], token, pathlib.Path(home))
    if not existing:
        undeploy()
