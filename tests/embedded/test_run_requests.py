"""Requested runs on a real server with real git pushes: start, rerun, resume, parts of a workflow."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers
from tests.waiting import wait_until

WORKFLOW = """
name: train
inputs:
  - name: code
    type: codeset
  - name: alpha
    default: "1"
outputs:
  - name: answer
steps:
  - name: prepare
    image: fuseml.local/shell:1
    inputs:
      - codeset: {name: code}
    script: |
      date +%s%N > "$FUSEML_ENV_RESULTS/data"
    outputs:
      - name: data
  - name: fit
    image: fuseml.local/shell:1
    inputs:
      - codeset: {name: code}
      - name: alpha
        value: "{{ inputs.alpha }}"
      - name: data
        value: "{{ steps.prepare.outputs.data }}"
    script: |
      . ./fit.sh
      printf "$FUSEML_DATA alpha=$FUSEML_ALPHA by=$BY run=$FUSEML_ENV_RUN" > "$FUSEML_ENV_RESULTS/answer"
    outputs:
      - name: answer
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("requests") / "home", "--mlflow", "none") as running:
        running.post("/workflows", raw=WORKFLOW.encode())
        yield running


def register(server: servers.Server, name: str, folder: pathlib.Path, script: str) -> servers.Checkout:
    """Register a codeset and push `fit.sh`."""
    registration = server.post(f"/codesets?project=p&name={name}")
    checkout = servers.Checkout(folder / name, registration["codeset"]["url"], registration["username"], registration["password"])
    push(checkout, script)
    return checkout


def push(checkout: servers.Checkout, script: str) -> str:
    (checkout.folder / "fit.sh").write_text(script)
    return checkout.push("another way to fit")


def request_run(server: servers.Server, path: str, body: object = None) -> dict[str, Any]:
    """Request a run and wait until it has finished; the run."""
    request = server.post(path, body)["request"]
    wait_until(lambda: server.get(f"/runs?request={request}"), "the request to become a run")
    return server.finished_run(server.get(f"/runs?request={request}")[0]["name"])


def start(server: servers.Server, codeset: str, **more: object) -> dict[str, Any]:
    return request_run(server, "/runs", {"workflow": "train", "project": "p", "codeset": codeset, **more})


def states(run: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(step["name"], step["state"], step["reused_from"]) for step in run["steps"]]


def test_a_failed_run_is_resumed_with_a_commit_that_fixes_it(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = register(server, "broken", tmp_path, "echo it is too hard >&2; exit 1\n")
    failed = start(server, "broken")
    assert failed["state"] == "failed"
    assert "it is too hard" in failed["cause"]
    data = failed["steps"][0]["outputs"]["data"]
    fixed = push(checkout, "BY=fix\n")

    resumed = request_run(server, f"/runs/{failed['name']}/resume", {"commit": fixed})

    assert (resumed["state"], resumed["commit"]) == ("succeeded", fixed)
    assert states(resumed) == [("prepare", "succeeded", failed["name"]), ("fit", "succeeded", None)]
    assert resumed["outputs"] == {"answer": f"{data} alpha=1 by=fix run={resumed['name']}"}
    assert server.call("POST", f"/runs/{resumed['name']}/resume").status == 409
    # Without the fix, the same step fails again.
    again = request_run(server, f"/runs/{failed['name']}/resume")
    assert (again["state"], again["commit"], again["steps"][1]["state"]) == ("failed", failed["commit"], "failed")


def test_a_rerun_uses_the_current_workflow_and_a_locked_one_the_stored_plan(server: servers.Server, tmp_path: pathlib.Path) -> None:
    register(server, "repeated", tmp_path, "BY=v1\n")
    first = start(server, "repeated", inputs={"alpha": 5})
    assert " alpha=5 by=v1 " in first["outputs"]["answer"]
    changed = WORKFLOW.replace("alpha=$FUSEML_ALPHA", "beta=$FUSEML_ALPHA")
    assert server.call("PUT", "/workflows/train", raw=changed.encode()).status == 200

    latest = request_run(server, f"/runs/{first['name']}/rerun")
    locked = request_run(server, f"/runs/{first['name']}/rerun", {"locked": True})

    assert " beta=5 by=v1 " in latest["outputs"]["answer"]
    assert latest["revision"] == first["revision"] + 1
    assert " alpha=5 by=v1 " in locked["outputs"]["answer"]
    assert locked["outputs"]["answer"].endswith(f"run={locked['name']}")
    assert (locked["revision"], locked["commit"]) == (first["revision"], first["commit"])


def test_a_workflow_can_be_run_step_by_step(server: servers.Server, tmp_path: pathlib.Path) -> None:
    register(server, "stepwise", tmp_path, "BY=me\n")
    prepared = start(server, "stepwise", until="prepare")
    assert (prepared["state"], states(prepared), prepared["outputs"]) == ("succeeded", [("prepare", "succeeded", None)], {})

    fitted = request_run(server, f"/runs/{prepared['name']}/rerun", {"only": "fit"})

    assert states(fitted) == [("prepare", "succeeded", prepared["name"]), ("fit", "succeeded", None)]
    assert fitted["outputs"]["answer"].startswith(prepared["steps"][0]["outputs"]["data"])


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")
def test_a_run_has_the_contents_of_git_lfs_and_none_starts_without_them(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = register(server, "large", tmp_path, "BY=$(wc -c < weights.bin | tr -d ' ')\n")
    servers.git(checkout.folder, "lfs", "install", "--local")
    servers.git(checkout.folder, "lfs", "track", "*.bin")
    (checkout.folder / "weights.bin").write_bytes(bytes(2_000_000))
    push(checkout, "BY=$(wc -c < weights.bin | tr -d ' ')\n")
    assert "by=2000000" in start(server, "large")["outputs"]["answer"]

    servers.git(checkout.folder, "config", "core.hooksPath", "/dev/null")
    (checkout.folder / "weights.bin").write_bytes(b"other")
    push(checkout, "BY=nothing\n")
    run = start(server, "large")
    assert run["state"] == "failed"
    assert (
        "the content of weights.bin (5 bytes, Git LFS) is missing on this git host: push it with `git lfs push --all http" in run["cause"]
    )
