"""Steps that are reused, on a real server with real pushes: what has not changed is not built again, and the run says why the rest was."""

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
        answer = server.post(f"/codesets?project=p&name={name}")
        self._checkout = servers.Checkout(folder / name, answer["codeset"]["url"], answer["username"], answer["password"])
        server.post(f"/workflows/assignments?name=train&codesetProject=p&codesetName={name}")

    def push(self, **files: str) -> dict[str, Any]:
        """The run that a push of these files (`.` spelled `_`) starts, once it has finished."""
        for name, text in files.items():
            (self._checkout.folder / name.replace("_", ".")).write_text(text)
        commit = self._checkout.push("change")
        wait_until(lambda: self._server.get(f"/runs?commit={commit}"), "the push to start a run")
        return self._server.finished_run(self._server.get(f"/runs?commit={commit}")[0]["name"])


def asked(server: servers.Server, path: str, body: object = None) -> dict[str, Any]:
    request = server.post(path, body)["request"]
    wait_until(lambda: server.get(f"/runs?request={request}"), "the request to become a run")
    return server.finished_run(server.get(f"/runs?request={request}")[0]["name"])


def steps(run: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None]]:
    assert run["state"] == "succeeded", run
    return {step["name"]: (step["state"], step["reused_from"], step["not_reused"]) for step in run["steps"]}


def test_a_push_executes_what_it_changes_and_nothing_else(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "changing", tmp_path)
    first = codeset.push(conda_yaml="python: 3.11\n", train_py="BY=one\n")
    assert steps(first) == {
        "builder": ("succeeded", None, "no cached execution of this step exists"),
        "trainer": ("succeeded", None, "it needs the outputs of step builder, which runs"),
    }
    environment = first["steps"][0]["outputs"]["image"]

    # The code has changed, what the builder watches has not.
    second = codeset.push(train_py="BY=two\n")
    assert steps(second) == {
        "builder": ("succeeded", first["name"], None),
        "trainer": ("succeeded", None, f"changed since {first['name']}: content of /project"),
    }
    assert second["outputs"] == {"model": f"{environment} by two"}

    # Neither has: the run is over at once, and leads to those that executed its steps.
    third = codeset.push()
    assert steps(third) == {"builder": ("succeeded", first["name"], None), "trainer": ("succeeded", second["name"], None)}
    assert third["outputs"] == second["outputs"]
    assert third["started"] == third["finished"]

    # What the builder watches has: everything behind it runs again.
    fourth = codeset.push(requirements_txt="numpy\n")
    assert steps(fourth) == {
        "builder": ("succeeded", None, f"changed since {first['name']}: content of conda.yaml, requirements.txt in /project"),
        "trainer": ("succeeded", None, "it needs the outputs of step builder, which runs"),
    }
    assert fourth["steps"][0]["outputs"]["image"] != environment


def test_a_run_can_do_without_the_cache_and_shows_beforehand_what_it_will_do(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "repeated", tmp_path)
    first = codeset.push(conda_yaml="python: 3.12\n", train_py="BY=one\n")
    wish = {"project": "p", "codeset": "repeated"}

    shown = server.post("/workflows/train/plan", wish)
    assert [(item["name"], item["run"]) for item in shown["reused"]] == [("builder", first["name"]), ("trainer", first["name"])]
    again = asked(server, f"/runs/{first['name']}/rerun")
    assert {origin for _, origin, _ in steps(again).values()} == {first["name"]}

    anew = asked(server, f"/runs/{first['name']}/rerun", {"no_cache": True})
    assert {reason for *_, reason in steps(anew).values()} == {"the run was requested without the cache"}
    assert anew["outputs"] != first["outputs"]
    # What it has built is what later runs take.
    assert {origin for _, origin, _ in steps(asked(server, "/runs", {"workflow": "train", **wish})).values()} == {anew["name"]}

    locked = asked(server, f"/runs/{first['name']}/rerun", {"locked": True})
    assert {reason for *_, reason in steps(locked).values()} == {"a locked run repeats the steps of its plan"}
    refused = server.call("POST", f"/runs/{first['name']}/rerun", {"locked": True, "no_cache": True})
    assert (refused.status, "give `locked` or `no_cache`, not both" in refused.json["message"]) == (400, True)


def test_what_succeeded_in_a_failed_run_is_reused(server: servers.Server, tmp_path: pathlib.Path) -> None:
    codeset = Codeset(server, "failing", tmp_path)
    failed = codeset.push(conda_yaml="python: 3.13\n", train_py="exit 1\n")
    assert failed["state"] == "failed"
    mended = codeset.push(train_py="BY=me\n")
    assert steps(mended)["builder"] == ("succeeded", failed["name"], None)
    resumed = asked(server, f"/runs/{failed['name']}/resume", {"commit": mended["commit"]})
    assert steps(resumed)["trainer"] == ("succeeded", None, "a resumed run executes the remaining steps")
