"""Artifacts of steps on a real cluster: contents go through S3 by containers of the step's pod, with an account that only the run's Secret holds."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import labels
from fuseml.domain.runs.state import FINISHED
from tests import s3_servers
from tests.images import image

from .deployment import Deployment, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WORKLOADS = "fuseml-workloads"
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


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[s3_servers.Server]:
    """An S3 server that pods reach."""
    (tmp_path / "s3").mkdir()
    with s3_servers.server(tmp_path / "s3", "0.0.0.0") as server:
        yield server


@pytest.fixture
def store(deployment: Deployment, bucket: s3_servers.Server, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A project with an artifact store of its own: the name of both, which is also the product of the store."""
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
    document = tmp_path / "workflow.yaml"
    document.write_text(WORKFLOW.replace("NAME", name).replace("IMAGE", image("SHELL")).replace("STORE", name))
    deployment.fuseml("workflow", "create", str(document))
    yield name, bucket.account.secret_key
    deployment.fuseml("workflow", "delete", name, "--force")
    deployment.fuseml("extension", "delete", name, "--force")


def _holders(secret: str, namespace: str) -> set[str]:
    """The kinds of the objects of a namespace that have the secret, plain or encoded."""
    spellings = (secret, base64.b64encode(secret.encode()).decode())
    kinds = "pods,taskruns,pipelineruns,configmaps,secrets"
    items = resources(kinds, namespace=namespace)
    return {item["kind"] for item in items if any(spelling in json.dumps(item) for spelling in spellings)}


def test_a_dataset_goes_into_a_step_and_a_model_comes_out_by_an_account_in_the_secret_of_the_run(
    deployment: Deployment, store: tuple[str, str], tmp_path: Path
) -> None:
    name, secret = store
    data = tmp_path / "data"
    data.mkdir()
    (data / "letters").write_text("b\nc\na\n")
    pushed = deployment.fuseml(
        "artifact", "push", str(data), "--kind", "dataset", "--name", name, "-p", name, "--tag", "latest", "-o", "json"
    )
    dataset = json.loads(pushed)["address"]
    assert _holders(secret, WORKLOADS) == set()
    deployment.fuseml("workflow", "run", name, "-p", name, "-i", f"data=dataset://{name}/{name}@latest")
    seen: set[str] = set()
    containers: set[str] = set()

    def run() -> dict[str, Any]:
        found: dict[str, Any] = deployment.read(f"/runs/{name}-1")
        return found

    def has_ended() -> bool:
        # The pods go once their logs are kept.
        pods = resources("pods", f"--selector={labels.NAME_LABEL}={name}-1", namespace=WORKLOADS)
        containers.update(container["name"] for pod in pods for container in pod["spec"]["containers"])
        seen.update(_holders(secret, WORKLOADS))
        return run()["state"] in FINISHED and run()["settled"]

    wait_until(lambda: any(item["name"] == f"{name}-1" for item in deployment.read("/runs?limit=50")), "the run exists")
    wait_until(has_ended, lambda: f"{name}-1 ends: {run()}")
    ended = run()
    assert (ended["state"], ended["outputs"]["answer"]) == ("succeeded", "a"), ended
    assert seen == {"Secret"}

    [model] = [item for item in deployment.read(f"/artifacts?project={name}") if item["kind"] == "model"]
    assert (model["address"], model["size"], model["step"], model["metrics"]) == (ended["outputs"]["model"], 6, "train", {"r2": 0.5})
    edges = deployment.read(f"/lineage?address={model['address']}")
    assert (dataset, model["address"]) in {(edge["source"], edge["target"]) for edge in edges}
    deployment.fuseml("artifact", "pull", model["address"], "--to", str(tmp_path / "pulled"))
    assert (tmp_path / "pulled" / "weights").read_text() == "a\nb\nc\n"
    log = deployment.fuseml("run", "logs", f"{name}-1", "train")
    assert f"fetching {dataset}" in log and "stored out/model as model://" in log and secret not in log
    assert {"step-fetch", "step-run", "step-fuseml-outputs"} <= containers
