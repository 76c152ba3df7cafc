"""FuseML as `task deploy` puts it on a real cluster, and what its tests ask of it: kubectl, HTTP, and the command that people use.

Needs KUBECONFIG, `kubectl` and `kn`, and to be run where the cluster's addresses can be reached. It takes FuseML as it finds it
(FUSEML_TOKEN is its administrator's token), or else deploys it, with the images of `DEPLOYED`, and removes it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

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
"""Images that `task deploy` is told, by its options."""


def kubectl(*arguments: str, given: str | None = None) -> str:
    return commands.run(["kubectl", *arguments], text=given or "", patience=CLUSTER_PATIENCE).stdout


def found(kind: str, *arguments: str, namespace: str = "fuseml") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", kind, f"--namespace={namespace}", "--output=json", *arguments))["items"]
    return items


def wait_until(condition: Callable[[], object], what: str | Callable[[], str]) -> float:
    """As tests.waiting has it, with the patience that a cluster needs. Returns the seconds that it took."""
    begun = time.monotonic()
    waiting.wait_until(condition, what, patience=CLUSTER_PATIENCE, interval=0.2)
    return time.monotonic() - begun


def deploy(*arguments: str) -> str:
    """What `task deploy` says."""
    options = [f"{option}={image(name)}" for name, option in DEPLOYED.items()]
    return _task("deploy", *options, *arguments)


def undeploy() -> None:
    """And see that nothing is left."""
    _task("undeploy", "--yes")
    assert "fuseml" not in kubectl("get", "namespaces,persistentvolumes,clusterroles,clusterrolebindings", "--output=name")
    # What is Tekton's own is as it was: none of its fields is ours.
    for name in ("config-events", "feature-flags"):
        told = json.loads(kubectl("get", "configmap", name, "--namespace=tekton-pipelines", "--output=json", "--show-managed-fields"))
        assert "fuseml" not in {field["manager"] for field in told["metadata"]["managedFields"]}, name


def _task(*arguments: str) -> str:
    return commands.run([sys.executable, "-m", "infra.deploy", *arguments], cwd=ROOT, patience=2 * CLUSTER_PATIENCE).stdout


@dataclass(frozen=True)
class Deployment:
    url: str
    token: str
    home: pathlib.Path

    def get(self, path: str, *, token: str | None = None) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return urllib3.request("GET", self.url + path, headers=headers, timeout=PATIENCE, retries=False)

    def told(self, path: str) -> Any:
        """What the API tells the administrator. Skips the test without the token."""
        if not self.token:
            pytest.skip("needs FUSEML_TOKEN")
        answer = self.get(path, token=self.token)
        assert answer.status == 200, answer.data
        return answer.json()

    @property
    def environment(self) -> dict[str, str]:
        """Of the command."""
        return {**os.environ, "FUSEML_SERVER_URL": self.url, "FUSEML_TOKEN": self.token, "FUSEML_HOME": str(self.home)}

    def fuseml(self, *arguments: str, code: int = 0, patience: float = CLUSTER_PATIENCE) -> str:
        """What the command prints."""
        if not self.token:
            pytest.skip("needs FUSEML_TOKEN")
        done = commands.fuseml("--timeout", f"{PATIENCE}", *arguments, environment=self.environment, code=code, patience=patience)
        return done.stdout + done.stderr


@contextlib.contextmanager
def running() -> Iterator[Deployment]:
    """FuseML on the cluster. Skips the test without one."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs KUBECONFIG of a cluster with Knative and Tekton")
    for program in ("kubectl", "kn"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")
    there = kubectl("get", "namespace", "fuseml", "--ignore-not-found")
    told = "" if there else deploy()
    token = os.environ.get("FUSEML_TOKEN", "") if there else re.findall(r"FUSEML_TOKEN=(\S+)", told)[0]
    (gateway,) = [service for service in found("ksvc") if service["metadata"]["name"] == "gateway"]
    with tempfile.TemporaryDirectory() as home:
        yield Deployment(gateway["status"]["url"], token, pathlib.Path(home))
    if not there:
        undeploy()
