"""Copies between stores on a laptop: steps that read from a bucket only get the artifacts of a folder there, once."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import s3_servers
from tests.embedded import servers
from tests.embedded.test_artifacts import of_process
from tests.waiting import wait_until

READ = """
import json, os, sys
import boto3
from urllib.parse import urlsplit
uri = urlsplit(os.environ[sys.argv[1]])
client = boto3.client("s3", region_name="us-east-1")
manifest = json.loads(client.get_object(Bucket=uri.netloc, Key=uri.path[1:])["Body"].read())
print(" ".join(f"{file['path']}:{file['size']}" for file in manifest["files"]), end="")
"""

WORKFLOW = """
name: shelf
inputs:
  - {name: data, type: dataset}
outputs:
  - {name: files}
  - {name: served}
steps:
  - name: train
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", access: reference, store: {service_resource: s3}}}
    script: |
      if env | grep -q FUSEML_FETCH; then echo "the step has the variables of the store" >&2; exit 1; fi
      cat > read.py <<'PROGRAM'
READ
      PROGRAM
      PYTHON -P read.py FUSEML_DATA_URI > "$FUSEML_ENV_RESULTS/files"
      printf "$FUSEML_DATA" > weights
    outputs:
      - {name: files}
      - {name: model, artifact: {kind: model, path: weights, name: churn, store: {extension_id: fuseml, service_id: artifacts}}}
  - name: serve
    image: fuseml.local/shell:1
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", access: reference, store: {service_resource: s3}}}
    script: |
      cat > read.py <<'PROGRAM'
READ
      PROGRAM
      PYTHON -P read.py FUSEML_MODEL_URI > "$FUSEML_ENV_RESULTS/served"
    outputs: [{name: served}]
"""


PATH = """
name: plain
inputs: [{name: data, type: dataset}]
outputs: [{name: size}]
steps:
  - name: count
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}"}}
    script: |
      printf '%s' "$(wc -c < "$FUSEML_DATA/large")" > "$FUSEML_ENV_RESULTS/size"
    outputs: [{name: size}]
"""


def workflow() -> str:
    read = "".join(f"      {line}\n" for line in READ.strip().splitlines())
    return WORKFLOW.replace("READ\n", read).replace("PYTHON", sys.executable)


@pytest.fixture
def bucket(tmp_path: pathlib.Path) -> Iterator[s3_servers.Server]:
    (tmp_path / "s3").mkdir()
    with s3_servers.server(tmp_path / "s3") as started:
        yield started


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[servers.Server]:
    with servers.running(tmp_path / "home", "--mlflow", "none") as running:
        running.post("/projects?name=demo")
        running.post("/workflows", raw=workflow().encode())
        yield running


def push(server: servers.Server, folder: pathlib.Path, size: int) -> str:
    """The address of a dataset in the folder of the server."""
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(1 << 20) * (size >> 20) if size >> 20 else b"x" * size)
    pushed = server.fuseml("artifact", "push", folder, "--kind", "dataset", "--name", "letters", "-p", "demo", "-o", "json")
    return str(json.loads(pushed.stdout)["address"])


def register(server: servers.Server, bucket: s3_servers.Server) -> None:
    account = {"AWS_ACCESS_KEY_ID": bucket.account.access_key, "AWS_SECRET_ACCESS_KEY": bucket.account.secret_key}
    service: dict[str, Any] = {
        "id": "store",
        "resource": "s3",
        "category": "artifact-store",
        "endpoints": [{"url": bucket.url, "configuration": {"FUSEML_ARTIFACTS_BUCKET": f"{s3_servers.BUCKET}/copies"}}],
        "credentials": [{"id": "default", "configuration": account}],
    }
    server.post("/extensions", {"id": "minio", "product": "minio", "services": [service]})


def run(server: servers.Server, address: str, name: str) -> dict[str, Any]:
    server.post("/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": address}})
    found = server.finished_run(name)
    assert (found["state"], found["cause"]) == ("succeeded", None)
    server.settled()
    return found


def test_steps_read_the_artifacts_of_a_folder_from_a_bucket(
    server: servers.Server, bucket: s3_servers.Server, tmp_path: pathlib.Path
) -> None:
    address = push(server, tmp_path / "data", 3)
    refused = server.call("POST", "/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": address}})
    assert refused.status == 400
    assert "reads from the stores {service_resource: s3}, the artifact is in fuseml/artifacts (folder)" in refused.json["message"]
    assert "no such store for a copy of a dataset; register one" in refused.json["message"]
    assert server.get("/runs") == []

    register(server, bucket)
    first = run(server, address, "shelf-1")
    assert (first["outputs"]["files"], first["outputs"]["served"]) == ("large:3", f"weights:{len(address)}")
    assert [step["name"] for step in first["steps"]] == ["train-data-copy", "train", "serve-model-copy", "serve"]
    shown = server.fuseml("run", "plan", "shelf", "-p", "demo", "-i", f"data={address}").stdout
    assert "train-data-copy" in shown and "serve-model-copy" in shown and "collect copy" in shown, shown
    recorded = server.get("/artifacts")
    assert {item["name"] for item in recorded} == {"letters", "churn"}
    assert {copy["store"] for item in recorded for copy in item["copies"]} == {"minio/store"}
    assert all(copy["location"].startswith("s3://") for item in recorded for copy in item["copies"])
    [model] = [item["address"] for item in recorded if item["kind"] == "model"]
    edges = server.get(f"/lineage?address={model}")
    assert [(edge["source"], edge["target"], edge["step"]) for edge in edges] == [(address, model, "train")]

    second = run(server, address, "shelf-2")
    plan = server.get("/runs/shelf-2/plan")
    # The copy of the dataset is known before the run, that of the model when it is looked for.
    assert [item["name"] for item in plan["reused"]] == ["train-data-copy"]
    assert second["outputs"]["served"] == first["outputs"]["served"]
    log = server.call("GET", "/runs/shelf-2/logs/serve-model-copy").body.decode()
    assert f"minio/store has a copy of {model}" in log


def test_a_mirror_is_read_by_path_too(server: servers.Server, bucket: s3_servers.Server, tmp_path: pathlib.Path) -> None:
    address = push(server, tmp_path / "data", 3)
    register(server, bucket)
    server.post("/workflows", raw=PATH.encode())
    said = server.fuseml("artifact", "mirror", "set", "-p", "demo", "--kind", "dataset", "--service-resource", "s3").stdout
    assert said == "Steps of the project demo read each dataset from the store {service_resource: s3}.\n"
    assert "service_resource: s3" in server.fuseml("artifact", "mirror", "show").stdout
    for number, reused in ((1, []), (2, ["count-data-copy"])):
        server.post("/runs", {"workflow": "plain", "project": "demo", "inputs": {"data": address}})
        found = server.finished_run(f"plain-{number}")
        assert (found["state"], found["outputs"]["size"]) == ("succeeded", "3"), found["cause"]
        server.settled()
        assert [item["name"] for item in server.get(f"/runs/plain-{number}/plan")["reused"]] == reused
    server.fuseml("artifact", "mirror", "remove", "-p", "demo", "--kind", "dataset")
    assert "where they are" in server.fuseml("artifact", "mirror", "show").stderr


def test_a_copy_survives_the_death_of_the_server(server: servers.Server, bucket: s3_servers.Server, tmp_path: pathlib.Path) -> None:
    address = push(server, tmp_path / "data", 96 << 20)
    register(server, bucket)
    server.post("/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": address}})
    wait_until(lambda: of_process(server, "fuseml.artifactstores.convert"), "the conversion to run", interval=0.005)
    server.kill()
    server.start()
    found = server.finished_run("shelf-1")
    assert (found["state"], found["outputs"]["files"]) == ("succeeded", f"large:{96 << 20}")
    assert found["steps"][0]["attempts"] == 1
