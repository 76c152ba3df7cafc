"""Triggers and concurrency of runs, on a real server with real git pushes."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from tests import commands
from tests.embedded import servers
from tests.waiting import wait_until


def document(name: str, policy: str, gate: pathlib.Path) -> str:
    """A workflow with one step, which runs until the file `gate` exists."""
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("triggers") / "home", "--mlflow", "none") as running:
        yield running


def push_twice(server: servers.Server, name: str, policy: str, folder: pathlib.Path) -> pathlib.Path:
    """Push twice to a codeset with an assigned workflow, both of that name; the gate of the runs."""
    gate = folder / "gate"
    server.post("/workflows", raw=document(name, policy, gate).encode())
    registration = server.post(f"/codesets?project=p&name={name}")
    server.post(f"/workflows/assignments?name={name}&codesetProject=p&codesetName={name}")
    checkout = servers.Checkout(folder / name, registration["codeset"]["url"], registration["username"], registration["password"])
    checkout.push("first")
    wait_until(lambda: [run["state"] for run in runs(server, name)] == ["running"], "the first run to run")
    checkout.push("second")
    wait_until(lambda: len(runs(server, name)) == 2, "the second run")
    return gate


def runs(server: servers.Server, workflow: str) -> list[dict[str, Any]]:
    return list(server.get(f"/runs?workflow={workflow}"))


def test_a_second_push_waits_until_the_first_run_has_ended(server: servers.Server, tmp_path: pathlib.Path) -> None:
    gate = push_twice(server, "queues", "queue", tmp_path)
    second = server.get("/runs/queues-2")
    assert (second["state"], second["waits_for"], second["concurrency_group"]) == ("queued", "queues-1", "queues@p/queues")

    gate.touch()
    first, second = server.finished_run("queues-1"), server.finished_run("queues-2")
    assert (first["state"], second["state"], second["waits_for"]) == ("succeeded", "succeeded", None)
    assert second["started"] >= first["finished"]


def test_a_second_push_cancels_the_first_run(server: servers.Server, tmp_path: pathlib.Path) -> None:
    gate = push_twice(server, "cancels", "cancel", tmp_path)
    first = server.finished_run("cancels-1")
    assert first["state"] == "cancelled"
    assert "superseded by cancels-2" in first["cause"]

    gate.touch()
    second = server.finished_run("cancels-2")
    assert second["state"] == "succeeded"
    assert second["started"] >= first["finished"]


SCHEDULED = """
name: nightly
inputs:
  - {{name: code, type: codeset}}
on: {{schedule: "{schedule}"}}
steps:
  - name: fit
    image: fuseml.local/shell:1
    inputs: [{{codeset: {{name: code}}}}]
    script: cat message
"""


def test_the_latest_time_missed_while_the_server_was_down_starts_one_run(tmp_path: pathlib.Path) -> None:
    missed = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=10)).replace(second=0, microsecond=0)
    schedule = f"{missed.minute},{(missed.minute - 5) % 60} * * * *"
    server = servers.Server(tmp_path / "home", "--mlflow", "none").start()
    try:
        server.post("/workflows", raw=SCHEDULED.format(schedule=schedule).encode())
        registration = server.post("/codesets?project=p&name=code")
        server.post("/workflows/assignments?name=nightly&codesetProject=p&codesetName=code")
        checkout = servers.Checkout(tmp_path / "code", registration["codeset"]["url"], registration["username"], registration["password"])
        (checkout.folder / "message").write_text("good night\n")
        commit = checkout.push("say it")
        server.stop()
        # Half an hour of downtime: watermark, workflow and assignment become older in the store.
        with contextlib.closing(sqlite3.connect(server.home / "fuseml.db")) as store, store:
            before = (missed - datetime.timedelta(minutes=20)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
            for statement in ("milestone SET moment", "workflow_revision SET created", "assignment SET created"):
                store.execute(f"UPDATE {statement} = ?", [before])
        server.start()

        run = server.finished_run("nightly-1")
        assert (run["state"], run["commit"]) == ("succeeded", commit)
        assert (run["trigger"]["kind"], run["trigger"]["due"]) == ("schedule.reached", missed.strftime("%Y-%m-%dT%H:%M:%SZ"))
        server.kill()
        server.start()
        assert [item["name"] for item in server.get("/runs")] == ["nightly-1"], "neither the other missed time nor this one again"
    finally:
        server.stop()


TRAIN = """
name: train
inputs:
  - {name: code, type: codeset}
steps:
  - name: fit
    image: fuseml.local/shell:1
    inputs: [{codeset: {name: code}}]
    script: printf "models:/answer/$(cat version)" > "$FUSEML_ENV_RESULTS/model"
    outputs: [{name: model}]
"""
SERVE = """
name: NAME
inputs:
  - {name: model, type: model}
on: {patterns: ["model://chain/*"]}
steps:
  - name: serve
    image: fuseml.local/shell:1
    inputs: [{name: model, value: "{{ inputs.model }}"}]
    script: |
      SCRIPT
    outputs: [{name: quantized}]
"""


def test_push_with_wait_follows_all_runs_that_it_causes(server: servers.Server, tmp_path: pathlib.Path) -> None:
    """train produces a model, shrink produces another model from it, and check fails for version 22."""
    shrink = SERVE.replace("NAME", "shrink").replace("SCRIPT", 'printf "${FUSEML_MODEL}2" > "$FUSEML_ENV_RESULTS/quantized"')
    check = SERVE.replace("NAME", "check").replace(
        "SCRIPT", '[ "$FUSEML_MODEL" != models:/answer/22 ] && echo good > "$FUSEML_ENV_RESULTS/quantized"'
    )
    for text in (TRAIN, shrink, check):
        server.post("/workflows", raw=text.encode())
    server.post("/codesets?project=chain&name=code")
    server.post("/workflows/assignments?name=train&codesetProject=chain&codesetName=code")
    (tmp_path / "code").mkdir()

    def push(version: int) -> tuple[int, dict[str, str]]:
        (tmp_path / "code" / "version").write_text(str(version))
        process = server.fuseml("push", tmp_path / "code", "-p", "chain", "-n", "code", "--wait", code=None)
        # The command has waited for all runs, and no run starts after its end.
        states = {run["name"]: run["state"] for run in server.get("/runs?project=chain")}
        followed = set(re.findall(r"(\S+-\d+)  (?:succeeded|failed)", process.stdout))
        assert followed == {name for name in states if name in process.stdout}, commands.describe(process)
        return process.returncode, states

    code, states = push(1)
    assert code == 0
    assert states == dict.fromkeys(["train-1", "shrink-1", "check-1", "check-2"], "succeeded")

    code, states = push(2)
    assert code == 1
    new = {name: state for name, state in states.items() if name in ("train-2", "shrink-2", "check-3", "check-4")}
    assert sorted(new.values()) == ["failed", "succeeded", "succeeded", "succeeded"]
    assert server.get("/runs?project=chain&state=running") == server.get("/runs?project=chain&state=queued") == []
