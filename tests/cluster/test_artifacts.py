"""Artifacts of steps on a real cluster: contents go through S3 by containers of the step's pod, with an account that only the run's Secret holds."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import labels
from fuseml.domain.runs.state import FINISHED
from tests import s3_servers
from tests.images import image

from .deployment import Deployment, kubectl, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WORKLOADS = "fuseml-workloads"
LETTERS = "b\nc\na\n"
LARGE = 96 << 20
WORKFLOW = """
name: NAME
inputs: [{name: data, type: dataset}]
outputs: [{name: model, type: model}, {name: answer}]
steps:
  - name: train
    image: IMAGE
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
    script: |
      if env | grep -q AWS_SECRET; then echo "the step has the account" >&2; exit 1; fi
      if touch /data/x 2> /dev/null; then echo "the contents can be changed" >&2; exit 1; fi
      test "$FUSEML_DATA" = /data
      mkdir -p out/model
      if [ -f /data/large ]; then cp /data/large out/model; fi
      sort /data/letters > out/model/weights
      printf '{"r2": 0.5}' > "$FUSEML_ENV_RESULTS/metrics"
      cp out/model/weights folds
    outputs:
      - {name: metrics}
      - {name: model, artifact: {kind: model, path: out/model, format: lines, name: NAME, store: {product: STORE}}}
      - {name: folds, artifact: {kind: dataset, path: folds, anonymous: true, store: {product: STORE}}}
  - name: use
    image: IMAGE
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", path: /model}}
      - {name: folds, artifact: {address: "{{ steps.train.outputs.folds }}"}}
      - {name: place, artifact: {address: "{{ steps.train.outputs.model }}", access: reference}}
    script: |
      cmp /model/weights "$FUSEML_FOLDS/folds"
      test "$FUSEML_PLACE" = "$FUSEML_MODEL_ADDRESS"
      case "$FUSEML_PLACE_URI" in s3://*) ;; *) exit 1 ;; esac
      test -n "$AWS_SECRET_ACCESS_KEY"
      head -n 1 /model/weights > "$FUSEML_ENV_RESULTS/answer"
    outputs: [{name: answer}]
"""

OF_CODE = """
name: NAME
inputs: [{name: code, type: codeset}]
outputs: [{name: words, type: dataset}, {name: count}]
steps:
  - name: split
    image: IMAGE
    retries: 1
    inputs: [{name: code, codeset: {name: "{{ inputs.code }}", path: /project}}]
    script: |
      if [ ! -f tried ]; then touch tried; exit 3; fi
      tr ' ' '\\n' < text > words
    outputs:
      - {name: words, artifact: {kind: dataset, path: words, name: NAME, store: {product: STORE}}}
  - name: count
    image: IMAGE
    inputs: [{name: words, artifact: {address: "{{ steps.split.outputs.words }}"}}]
    script: grep -c . "$FUSEML_WORDS/words" > "$FUSEML_ENV_RESULTS/count"
    outputs: [{name: count}]
"""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[s3_servers.Server]:
    """An S3 server that pods reach."""
    (tmp_path / "s3").mkdir()
    with s3_servers.server(tmp_path / "s3", "0.0.0.0") as server:
        yield server


@dataclass(frozen=True)
class Shelf:
    """A project with an artifact store of its own and the workflow, all of one name, which is also the product of the store."""

    deployment: Deployment
    name: str
    bucket: s3_servers.Server

    @property
    def secret(self) -> str:
        return self.bucket.account.secret_key

    def push(self, folder: Path, size: int = 0) -> str:
        """The address of a new dataset: `letters`, and `large` with that many bytes."""
        folder.mkdir()
        (folder / "letters").write_text(LETTERS)
        if size:
            (folder / "large").write_bytes(os.urandom(size))
        options = ("--kind", "dataset", "--name", self.name, "-p", self.name, "--tag", "latest", "-o", "json")
        address: str = json.loads(self.deployment.fuseml("artifact", "push", str(folder), *options))["address"]
        return address

    @contextlib.contextmanager
    def workflow(self, name: str, text: str, folder: Path) -> Iterator[None]:
        """The workflow of this text, until the end of the block."""
        document = folder / f"{name}.yaml"
        document.write_text(text.replace("NAME", name).replace("IMAGE", image("SHELL")).replace("STORE", self.name))
        self.deployment.fuseml("workflow", "create", str(document))
        yield
        self.deployment.fuseml("workflow", "delete", name, "--force")

    def start(self) -> str:
        """The name of a new run on the latest dataset."""
        data = f"data=dataset://{self.name}/{self.name}@latest"
        started = self.deployment.fuseml("workflow", "run", self.name, "-p", self.name, "-i", data, "-o", "json")
        name: str = json.loads(started)["name"]
        return name

    def run(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.deployment.read(f"/runs/{name}")
        return found

    def ended(self, name: str) -> dict[str, Any]:
        wait_until(lambda: self._has_ended(name), lambda: f"{name} ends: {self.run(name)}")
        return self.run(name)

    def _has_ended(self, name: str) -> bool:
        run = self.run(name)
        return run["state"] in FINISHED and run["settled"]

    def models(self) -> list[dict[str, Any]]:
        return [item for item in self.deployment.read(f"/artifacts?project={self.name}") if item["kind"] == "model"]

    def pods(self, run: str) -> list[dict[str, Any]]:
        return resources("pods", f"--selector={labels.NAME_LABEL}={run}", namespace=WORKLOADS)


@pytest.fixture
def shelf(deployment: Deployment, bucket: s3_servers.Server, tmp_path: Path) -> Iterator[Shelf]:
    name = f"artifacts-{os.urandom(2).hex()}"
    # By an address the client of S3 puts the bucket into the path, as the server expects.
    url = f"http://{socket.gethostbyname(os.environ.get('FUSEML_TEST_HOST', 'host.local'))}:{bucket.port}"
    configuration = {"FUSEML_ARTIFACTS_BUCKET": f"{s3_servers.BUCKET}/{name}", "AWS_REGION": "us-east-1"}
    account = {"AWS_ACCESS_KEY_ID": bucket.account.access_key, "AWS_SECRET_ACCESS_KEY": bucket.account.secret_key}
    service = {
        "id": "store",
        "resource": "s3",
        "category": "artifact-store",
        "auth_required": True,
        "endpoints": [{"url": url, "configuration": configuration}],
        "credentials": [{"id": "of-project", "scope": "project", "projects": [name], "configuration": account}],
    }
    file = tmp_path / "extension.json"
    file.write_text(json.dumps({"id": name, "product": name, "version": "1.0.0", "services": [service]}))
    deployment.fuseml("project", "create", name)
    deployment.fuseml("extension", "register", "-f", str(file))
    found = Shelf(deployment, name, bucket)
    with found.workflow(name, WORKFLOW, tmp_path):
        yield found
    deployment.fuseml("extension", "delete", name, "--force")


def _holders(secret: str, namespace: str) -> set[str]:
    """The kinds of the objects of a namespace that have the secret, plain or encoded."""
    spellings = (secret, base64.b64encode(secret.encode()).decode())
    kinds = "pods,taskruns,pipelineruns,configmaps,secrets"
    items = resources(kinds, namespace=namespace)
    return {item["kind"] for item in items if any(spelling in json.dumps(item) for spelling in spellings)}


def test_a_dataset_goes_into_a_step_and_a_model_comes_out_by_an_account_in_the_secret_of_the_run(shelf: Shelf, tmp_path: Path) -> None:
    deployment = shelf.deployment
    dataset = shelf.push(tmp_path / "data")
    assert _holders(shelf.secret, WORKLOADS) == set()
    name = shelf.start()
    seen: set[str] = set()
    containers: set[str] = set()

    def has_ended() -> bool:
        # The pods go once their logs are kept.
        containers.update(container["name"] for pod in shelf.pods(name) for container in pod["spec"]["containers"])
        seen.update(_holders(shelf.secret, WORKLOADS))
        return shelf.run(name)["state"] in FINISHED

    wait_until(has_ended, lambda: f"{name} ends: {shelf.run(name)}")
    ended = shelf.ended(name)
    assert (ended["state"], ended["outputs"]["answer"]) == ("succeeded", "a"), ended
    assert seen == {"Secret"}
    assert {"step-fetch", "step-run", "step-fuseml-outputs"} <= containers

    [model] = shelf.models()
    assert (model["address"], model["size"], model["step"], model["metrics"]) == (ended["outputs"]["model"], 6, "train", {"r2": 0.5})
    edges = deployment.read(f"/lineage?address={model['address']}")
    assert (dataset, model["address"]) in {(edge["source"], edge["target"]) for edge in edges}
    deployment.fuseml("artifact", "pull", model["address"], "--to", str(tmp_path / "pulled"))
    assert (tmp_path / "pulled" / "weights").read_text() == "a\nb\nc\n"
    log = deployment.fuseml("run", "logs", name, "train")
    assert f"fetching {dataset}" in log and "stored out/model as model://" in log and shelf.secret not in log


def test_a_file_of_a_codeset_becomes_an_artifact_at_the_second_attempt(shelf: Shelf, tmp_path: Path) -> None:
    fuseml, workflow = shelf.deployment.fuseml, f"{shelf.name}-code"
    codeset = ("-p", shelf.name, "-n", "texts")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "text").write_text("one two three\n")
    fuseml("push", str(tmp_path / "code"), *codeset)
    with shelf.workflow(workflow, OF_CODE, tmp_path):
        fuseml("workflow", "assign", "-n", workflow, "-p", shelf.name, "-c", "texts", "--wait")
        run = shelf.ended(f"{workflow}-1")
        assert (run["state"], run["outputs"]["count"], run["steps"][0]["attempts"]) == ("succeeded", "3", 2), run
        [words] = shelf.deployment.read(f"/artifacts?project={shelf.name}&kind=dataset")
        assert words["address"] == run["outputs"]["words"]
        edges = shelf.deployment.read(f"/lineage?address={words['address']}")
        assert (f"code://{shelf.name}/texts/{run['commit']}", words["address"]) in {(edge["source"], edge["target"]) for edge in edges}
    fuseml("codeset", "delete", *codeset)


def test_a_damaged_artifact_starts_no_step(shelf: Shelf, tmp_path: Path) -> None:
    shelf.push(tmp_path / "data")
    assert _damage(shelf.bucket, len(LETTERS))
    name = shelf.start()
    run = shelf.ended(name)
    assert (run["state"], shelf.models()) == ("failed", [])
    assert "is damaged in the store" in run["cause"]


@pytest.mark.parametrize("container", ["step-fetch", "step-fuseml-outputs"])
def test_a_pod_that_dies_in_the_middle_of_a_transfer_loses_nothing(shelf: Shelf, tmp_path: Path, container: str) -> None:
    shelf.push(tmp_path / "data", LARGE)
    name = shelf.start()
    found: list[dict[str, Any]] = []

    def transferring() -> bool:
        found[:] = [pod for pod in shelf.pods(name) if _turn(pod) == container]
        return bool(found)

    wait_until(transferring, lambda: f"{container} to have its turn: {shelf.run(name)}")
    killed = found[0]["metadata"]
    kubectl("delete", "pod", killed["name"], f"--namespace={WORKLOADS}", "--grace-period=0", "--force")
    task = killed["labels"]["tekton.dev/taskRun"]
    wait_until(
        lambda: (
            [pod for pod in shelf.pods(name) if pod["metadata"]["labels"]["tekton.dev/taskRun"] == task]
            and killed["uid"] not in [pod["metadata"]["uid"] for pod in shelf.pods(name)]
        ),
        "Tekton to replace the pod",
    )
    run = shelf.ended(name)
    assert (run["state"], run["outputs"]["answer"]) == ("succeeded", "a"), run
    [model] = shelf.models()
    assert (model["address"], model["size"]) == (run["outputs"]["model"], LARGE + len(LETTERS))


def _damage(server: s3_servers.Server, size: int) -> list[str]:
    """Change the contents of all objects with this size; returns their keys."""
    import boto3.session

    account = {"aws_access_key_id": server.account.access_key, "aws_secret_access_key": server.account.secret_key}
    client = boto3.session.Session().client("s3", endpoint_url=server.url, region_name="us-east-1", **account)
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=s3_servers.BUCKET)["Contents"] if item["Size"] == size]
    for key in keys:
        client.put_object(Bucket=s3_servers.BUCKET, Key=key, Body=b"?" * size)
    client.close()
    return keys


def _turn(pod: dict[str, Any]) -> str:
    """The container of a step's pod that works: all of them start at once, and each waits for the end of the one before it."""
    ended = {status["name"]: "terminated" in status["state"] for status in pod["status"].get("containerStatuses", ())}
    if pod["status"]["phase"] != "Running":
        return ""
    return next((name for name in ("step-fetch", "step-run", "step-fuseml-outputs") if not ended.get(name, True)), "")
