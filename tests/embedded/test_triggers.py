"""What starts runs and what keeps them apart, on a real server with real git pushes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import server as embedded


def document(name: str, policy: str, gate: pathlib.Path) -> str:
    """A workflow whose one step waits until the file `gate` is there."""
    return f"""
name: {name}
inputs:
  - {{name: code, type: codeset}}
concurrency: {{policy: {policy}}}
steps:
  - name: fit
    image: fuseml.local/shell:1
    inputs: [{{codeset: {{name: code}}}}]
    script: |
      while [ ! -e {gate} ]; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    with embedded.running(tmp_path_factory.mktemp("triggers") / "home", "--mlflow", "none") as running:
        yield running


def pushed_twice(server: embedded.Server, name: str, policy: str, folder: pathlib.Path) -> pathlib.Path:
    """Two pushes to a codeset of that name, assigned to a workflow of that name; the file that lets their runs end."""
    gate = folder / "gate"
    server.post("/workflows", raw=document(name, policy, gate).encode())
    answer = server.post(f"/codesets?project=p&name={name}")
    server.post(f"/workflows/assignments?name={name}&codesetProject=p&codesetName={name}")
    checkout = embedded.Checkout(folder / name, answer["codeset"]["url"], answer["username"], answer["password"])
    checkout.push("first")
    embedded.wait_for(lambda: [run["state"] for run in runs(server, name)] == ["running"], 30, "the first run to run")
    checkout.push("second")
    embedded.wait_for(lambda: len(runs(server, name)) == 2, 30, "the second run")
    return gate


def runs(server: embedded.Server, workflow: str) -> list[dict[str, Any]]:
    return list(server.get(f"/runs?workflow={workflow}"))


def test_a_second_push_waits_until_the_first_run_has_ended(server: embedded.Server, tmp_path: pathlib.Path) -> None:
    gate = pushed_twice(server, "queues", "queue", tmp_path)
    second = server.get("/runs/queues-2")
    assert (second["state"], second["waits_for"], second["concurrency_group"]) == ("queued", "queues-1", "queues@p/queues")

    gate.touch()
    first, second = server.finished_run("queues-1"), server.finished_run("queues-2")
    assert (first["state"], second["state"], second["waits_for"]) == ("succeeded", "succeeded", None)
    assert second["started"] >= first["finished"]


def test_a_second_push_cancels_the_first_run(server: embedded.Server, tmp_path: pathlib.Path) -> None:
    gate = pushed_twice(server, "cancels", "cancel", tmp_path)
    first = server.finished_run("cancels-1")
    assert first["state"] == "cancelled"
    assert "superseded by cancels-2" in first["cause"]

    gate.touch()
    second = server.finished_run("cancels-2")
    assert second["state"] == "succeeded"
    assert second["started"] >= first["finished"]
