"""Reuse of steps on a real server with real pushes: unchanged steps are not executed, and the run has the reasons for the others."""

from __future__ import annotations

import pathlib
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
outputs:
  - name: model
steps:
  - name: builder
    image: fuseml.local/shell:1
    inputs:
      - codeset: {name: code}
    cache: {paths: [conda.yaml, requirements.txt]}
    script: date +%s%N > "$FUSEML_ENV_RESULTS/image"
    outputs:
      - name: image
  - name: trainer
    image: fuseml.local/shell:1
    cache: true
    inputs:
      - codeset: {name: code}
      - name: image
        value: "{{ steps.builder.outputs.image }}"
    script: |
      . ./train.py
      echo "$FUSEML_IMAGE by $BY" > "$FUSEML_ENV_RESULTS/model"
    outputs:
      - name: model
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("caching") / "home", "--mlflow", "none") as running:
        running.post("/workflows", raw=WORKFLOW.encode())
        yield running


class Codeset:
    """A codeset whose pushes run the workflow."""

    def __init__(self, server: servers.Server, name: str, folder: pathlib.Path) -> None:
        self._server, self.name = server, name
        registration = server.post(f"/codesets?project=p&name={name}")
        self._checkout = servers.Checkout(folder / name, registration["codeset"]["url"], registration["username"], registration["password"])
        server.post(f"/workflows/assignments?name=train&codesetProject=p&codesetName={name}")

    def push(self, **files: str) -> dict[str, Any]:
        """Push the files (`_` in a name stands for `.`) and wait for the run; the finished run."""
        for name, text in files.items():
            (self._checkout.folder / name.replace("_", ".")).write_text(text)
        commit = self._checkout.push("change")
        wait_until(lambda: self._server.get(f"/runs?commit={commit}"), "the push to start a run")
        return self._server.finished_run(self._server.get(f"/runs?commit={commit}")[0]["name"])


def request_run(server: servers.Server, path: str, body: object = None) -> dict[str, Any]:
    request = server.post(path, body)["request"]
    wait_until(lambda: server.get(f"/runs?request={request}"), "the request to become a run")
    return server.finished_run(server.get(f"/runs?request={request}")[0]["name"])


def steps(run: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None]]:
    assert run["state"] == "succeeded", run
    return {step["name"]: (step["state"], step["reused_from"], step["not_reused"]) for step in run["steps"]}


def test_a_push_executes_only_the_steps_that_it_changes(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "changing", tmp_path)
    first = codeset.push(conda_yaml="python: 3.11\n", train_py="BY=one\n")
    assert steps(first) == {
        "builder": ("succeeded", None, "no cached execution of this step exists"),
        "trainer": ("succeeded", None, "it needs the outputs of step builder, which runs"),
    }
    environment = first["steps"][0]["outputs"]["image"]

    # The code has changed, the builder's cache paths have not.
    second = codeset.push(train_py="BY=two\n")
    assert steps(second) == {
        "builder": ("succeeded", first["name"], None),
        "trainer": ("succeeded", None, f"changed since {first['name']}: content of /project"),
    }
    assert second["outputs"] == {"model": f"{environment} by two"}

    # Nothing has changed: the run succeeds at once, and refers to the runs that executed its steps.
    third = codeset.push()
    assert steps(third) == {"builder": ("succeeded", first["name"], None), "trainer": ("succeeded", second["name"], None)}
    assert third["outputs"] == second["outputs"]
    assert third["started"] == third["finished"]

    # The builder's cache paths have changed: all steps that need it are executed again.
    fourth = codeset.push(requirements_txt="numpy\n")
    assert steps(fourth) == {
        "builder": ("succeeded", None, f"changed since {first['name']}: content of conda.yaml, requirements.txt in /project"),
        "trainer": ("succeeded", None, "it needs the outputs of step builder, which runs"),
    }
    assert fourth["steps"][0]["outputs"]["image"] != environment


def test_a_plan_shows_reused_steps_and_a_run_can_ignore_the_cache(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "repeated", tmp_path)
    first = codeset.push(conda_yaml="python: 3.12\n", train_py="BY=one\n")
    spec = {"project": "p", "codeset": "repeated"}

    plan = server.post("/workflows/train/plan", spec)
    assert [(item["name"], item["run"]) for item in plan["reused"]] == [("builder", first["name"]), ("trainer", first["name"])]
    again = request_run(server, f"/runs/{first['name']}/rerun")
    assert {origin for _, origin, _ in steps(again).values()} == {first["name"]}

    uncached = request_run(server, f"/runs/{first['name']}/rerun", {"no_cache": True})
    assert {reason for *_, reason in steps(uncached).values()} == {"the run was requested without the cache"}
    assert uncached["outputs"] != first["outputs"]
    # Later runs reuse its steps.
    assert {origin for _, origin, _ in steps(request_run(server, "/runs", {"workflow": "train", **spec})).values()} == {uncached["name"]}

    locked = request_run(server, f"/runs/{first['name']}/rerun", {"locked": True})
    assert {reason for *_, reason in steps(locked).values()} == {"a locked run repeats the steps of its plan"}
    refused = server.call("POST", f"/runs/{first['name']}/rerun", {"locked": True, "no_cache": True})
    assert (refused.status, "give `locked` or `no_cache`, not both" in refused.json["message"]) == (400, True)


def test_succeeded_steps_of_a_failed_run_are_reused(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "failing", tmp_path)
    failed = codeset.push(conda_yaml="python: 3.13\n", train_py="exit 1\n")
    assert failed["state"] == "failed"
    fixed = codeset.push(train_py="BY=me\n")
    assert steps(fixed)["builder"] == ("succeeded", failed["name"], None)
    resumed = request_run(server, f"/runs/{failed['name']}/resume", {"commit": fixed["commit"]})
    assert steps(resumed)["trainer"] == ("succeeded", None, "a resumed run executes the remaining steps")
