"""Artifacts of steps on a laptop: contents go from store to step and back, and survive every death of the server."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

WORKFLOW = """
name: shelf
inputs:
  - {name: data, type: dataset}
outputs:
  - {name: model, type: model}
  - {name: answer}
steps:
  - name: train
    image: fuseml.local/shell:1
    inputs:
      - {name: data, artifact: {address: "{{ inputs.data }}", path: /data}}
    script: |
      if ls "STORE" 2> /dev/null; then echo "the step reaches the store" >&2; exit 1; fi
      if env | grep -q FUSEML_FETCH; then echo "the step has the variables of the store" >&2; exit 1; fi
      mkdir -p out/model
      cp "$FUSEML_DATA/large" out/model/large
      sort "$FUSEML_DATA/letters" > out/model/weights
      cp out/model/weights scratch
      printf '{"r2": 0.5}' > "$FUSEML_ENV_RESULTS/metrics"
    outputs:
      - {name: metrics}
      - {name: model, artifact: {kind: model, path: out/model, format: lines, name: sorted}}
      - {name: scratch, artifact: {kind: dataset, path: scratch, anonymous: true}}
  - name: use
    image: fuseml.local/shell:1
    inputs:
      - {name: model, artifact: {address: "{{ steps.train.outputs.model }}", path: /model}}
      - {name: scratch, artifact: {address: "{{ steps.train.outputs.scratch }}"}}
      - {name: place, artifact: {address: "{{ steps.train.outputs.model }}", access: reference}}
    script: |
      cmp "$FUSEML_MODEL/weights" "$FUSEML_SCRATCH/scratch"
      [ "$FUSEML_PLACE" = "$FUSEML_MODEL_ADDRESS" ]
      case "$FUSEML_PLACE_URI" in file://*/artifacts/model/*) ;; *) exit 1 ;; esac
      head -n 1 "$FUSEML_MODEL/weights" > "$FUSEML_ENV_RESULTS/answer"
    outputs:
      - name: answer
"""
LARGE = 96 << 20


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[servers.Server]:
    with servers.running(tmp_path / "home", "--mlflow", "none") as running:
        running.post("/projects?name=demo")
        running.post("/workflows", raw=WORKFLOW.replace("STORE", str(running.home / "artifacts")).encode())
        yield running


def push(server: servers.Server, folder: pathlib.Path, size: int = 1) -> dict[str, Any]:
    """The record of a pushed dataset: `letters`, and a file of that many bytes."""
    folder.mkdir()
    (folder / "letters").write_text("b\nc\na\n")
    (folder / "large").write_bytes(os.urandom(1 << 20) * (size >> 20) if size >> 20 else b"x" * size)
    pushed = server.fuseml("artifact", "push", folder, "--kind", "dataset", "--name", "letters", "--tag", "latest", "-o", "json")
    found: dict[str, Any] = json.loads(pushed.stdout)
    return found


def start(server: servers.Server, address: str = "dataset://demo/letters@latest") -> None:
    server.post("/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": address}})


def of_process(server: servers.Server, module: str) -> list[int]:
    """The processes of a program of this server."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command, environment = path.read_bytes().split(b"\0"), (path.parent / "environ").read_bytes()
        except OSError:
            continue
        if module.encode() in command and str(server.home).encode() in environment:
            found.append(int(path.parent.name))
    return found


def expect_succeeded(server: servers.Server, name: str) -> dict[str, Any]:
    run = server.finished_run(name)
    assert (run["state"], run["cause"]) == ("succeeded", None)
    assert run["outputs"]["answer"] == "a"
    return run


def test_a_run_trains_on_a_pushed_dataset_and_a_later_step_reads_the_model(server: servers.Server, tmp_path: pathlib.Path) -> None:
    dataset = push(server, tmp_path / "data")
    again = server.fuseml("artifact", "push", tmp_path / "data", "--kind", "dataset", "--name", "letters", "-p", "demo", "-o", "json")
    assert json.loads(again.stdout)["address"] == dataset["address"]
    start(server)
    run = expect_succeeded(server, "shelf-1")

    plan = server.get("/runs/shelf-1/plan")
    [fetch] = next(step for step in plan["steps"] if step["name"] == "train")["fetches"]
    assert (fetch["address"], fetch["asked"]) == ([{"kind": "text", "text": dataset["address"]}], "dataset://demo/letters@latest")
    [model] = server.get("/artifacts?kind=model")
    assert (model["address"], model["format"], model["run"], model["step"]) == (run["outputs"]["model"], "lines", "shelf-1", "train")
    assert (model["digest"], model["size"], model["metrics"]) == (model["version"], 7, {"r2": 0.5})
    edges = server.get(f"/lineage?address={model['address']}")
    assert {(edge["source"], edge["target"], edge["step"]) for edge in edges} == {(dataset["address"], model["address"], "train")}
    # What is anonymous is recorded nowhere.
    assert {item["name"] for item in server.get("/artifacts")} == {"letters", "sorted"}

    pulled = tmp_path / "pulled"
    server.fuseml("artifact", "pull", model["address"], "--to", pulled)
    assert (pulled / "weights").read_text() == "a\nb\nc\n"
    refused = server.fuseml("artifact", "pull", model["address"], "--to", pulled, code=1)
    assert "exists and is no empty folder" in refused.stderr
    assert "cannot show a page" in server.fuseml("artifact", "open", model["address"], code=1).stderr


def test_a_damaged_artifact_starts_no_step(server: servers.Server, tmp_path: pathlib.Path) -> None:
    push(server, tmp_path / "data")
    for path in (server.home / "artifacts").rglob("files/*"):
        path.write_bytes(b"?" * path.stat().st_size)
    start(server)
    run = server.finished_run("shelf-1")
    assert run["state"] == "failed"
    assert "is damaged in the store" in run["cause"]
    refused = server.fuseml("artifact", "pull", "dataset://demo/letters@latest", "--to", tmp_path / "pulled", code=1)
    assert "is damaged in the store" in refused.stderr
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("module", ["fuseml.artifactstores.fetch", "fuseml.artifactstores.collect"])
@pytest.mark.parametrize("victim", ["server", "program"])
def test_a_death_in_the_middle_of_a_transfer_loses_nothing(
    server: servers.Server, tmp_path: pathlib.Path, module: str, victim: str
) -> None:
    push(server, tmp_path / "data", LARGE)
    start(server)
    pid = wait_until(lambda: of_process(server, module), f"{module} to run", interval=0.005)[-1]
    time.sleep(0.3)
    if victim == "server":
        server.kill()
        server.start()
    else:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pytest.skip("the program was faster")
    run = server.finished_run("shelf-1")
    if victim == "server":
        assert expect_succeeded(server, "shelf-1")["steps"][0]["attempts"] == 1
        [model] = server.get("/artifacts?kind=model")
        assert model["size"] == LARGE + 6
    else:
        # As an out-of-memory killer does: the attempt fails, with nothing visible, and another one succeeds.
        assert run["state"] == "failed"
        assert server.get("/artifacts?kind=model") == []
        server.fuseml("run", "resume", "shelf-1", "--wait")
        expect_succeeded(server, "shelf-2")


def test_what_cannot_be_read_is_refused_before_a_run_starts(server: servers.Server, tmp_path: pathlib.Path) -> None:
    push(server, tmp_path / "data")
    for address, status, message in (
        ("dataset://demo/none@latest", 404, "there is no tag dataset://demo/none@latest"),
        ("dataset://demo/letters/1", 404, "there is no artifact dataset://demo/letters/1"),
        ("dataset://demo/letters", 400, "it names no version"),
        ("gas://demo/letters/1", 400, "is no kind of artifact"),
        ("dataset://other/secret/1", 403, "of its own project only"),
        ("dataset://other/none/1", 403, "of its own project only"),
    ):
        answer = server.call("POST", "/runs", {"workflow": "shelf", "project": "demo", "inputs": {"data": address}})
        assert (answer.status, message in answer.json["message"]) == (status, True), answer
        assert "secret" not in answer.json["message"]
    assert server.get("/runs") == []


def test_a_policy_removes_the_artifacts_that_nothing_keeps(server: servers.Server, tmp_path: pathlib.Path) -> None:
    used, second, third = (push(server, tmp_path / name, size)["address"] for name, size in (("a", 1), ("b", 2), ("c", 3)))
    start(server, used)
    expect_succeeded(server, "shelf-1")
    server.settled()

    def prune(*options: str, code: int = 0, text: str = "") -> Any:
        return server.fuseml("artifact", "prune", *options, code=code, text=text)

    assert "There is no policy" in prune("--dry-run").stderr
    tried = json.loads(prune("--dry-run", "-p", "demo", "-k", "dataset", "--newest", "2", "-o", "json").stdout)
    assert tried == [], "two versions are the newest, the plan of a run with a model names the third"
    set_ = server.fuseml("artifact", "retention", "set", "-p", "demo", "--kind", "dataset", "--newest", "1")
    assert set_.stdout == "The project demo keeps of its dataset artifacts the newest 1 of each name.\n"
    fates = {fate["address"]: fate["reason"] for fate in json.loads(prune("--dry-run", "--kept", "-o", "json").stdout)}
    [model] = [item["address"] for item in server.get("/artifacts?kind=model")]
    assert fates == {used: f"in the lock of shelf-1, which made {model}", second: None, third: "tagged latest"}
    assert second in prune("--dry-run").stdout
    assert "nothing was removed" in prune(code=1, text="n\n").stderr
    assert "only try a policy" in prune("--newest", "1", code=1).stderr
    assert len(server.get("/artifacts?kind=dataset")) == 3
    assert "1 artifact removed." in prune(text="y\n").stdout
    assert prune("--yes").stderr == "No artifact goes.\n"
    assert [item["address"] for item in server.get("/artifacts?kind=dataset")] == sorted([used, third])
    assert "there is no artifact" in server.fuseml("artifact", "pull", second, "--to", tmp_path / "pulled", code=1).stderr
    assert server.fuseml("artifact", "retention", "show").stdout.split()[:2] == ["PROJECT", "KIND"]
    server.fuseml("artifact", "retention", "remove", "-p", "demo", "-k", "dataset")
    assert "so everything stays" in server.fuseml("artifact", "retention", "show").stderr
    # The contents are in their store for an hour yet, and stay if the version is pushed again.
    shutil.rmtree(tmp_path / "b")
    assert push(server, tmp_path / "b", 2)["address"] == second
    server.fuseml("artifact", "pull", second, "--to", tmp_path / "pulled")
