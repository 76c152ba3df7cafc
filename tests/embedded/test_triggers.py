"""What starts runs and what keeps them apart, on a real server with real git pushes."""

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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("triggers") / "home", "--mlflow", "none") as running:
        yield running


def pushed_twice(server: servers.Server, name: str, policy: str, folder: pathlib.Path) -> pathlib.Path:
    """Two pushes to a codeset of that name, assigned to a workflow of that name; the file that lets their runs end."""
    gate = folder / "gate"
    server.post("/workflows", raw=document(name, policy, gate).encode())
    answer = server.post(f"/codesets?project=p&name={name}")
    server.post(f"/workflows/assignments?name={name}&codesetProject=p&codesetName={name}")
    checkout = servers.Checkout(folder / name, answer["codeset"]["url"], answer["username"], answer["password"])
    checkout.push("first")
    wait_until(lambda: [run["state"] for run in runs(server, name)] == ["running"], "the first run to run")
    checkout.push("second")
    wait_until(lambda: len(runs(server, name)) == 2, "the second run")
    return gate


def runs(server: servers.Server, workflow: str) -> list[dict[str, Any]]:
    return list(server.get(f"/runs?workflow={workflow}"))


def test_a_second_push_waits_until_the_first_run_has_ended(server: servers.Server, tmp_path: pathlib.Path) -> None:
    gate = pushed_twice(server, "queues", "queue", tmp_path)
    second = server.get("/runs/queues-2")
    assert (second["state"], second["waits_for"], second["concurrency_group"]) == ("queued", "queues-1", "queues@p/queues")

    gate.touch()
    first, second = server.finished_run("queues-1"), server.finished_run("queues-2")
    assert (first["state"], second["state"], second["waits_for"]) == ("succeeded", "succeeded", None)
    assert second["started"] >= first["finished"]


def test_a_second_push_cancels_the_first_run(server: servers.Server, tmp_path: pathlib.Path) -> None:
    gate = pushed_twice(server, "cancels", "cancel", tmp_path)
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


def test_a_time_that_was_missed_while_the_server_was_down_is_made_up_for_once(tmp_path: pathlib.Path) -> None:
    missed = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=10)).replace(second=0, microsecond=0)
    schedule = f"{missed.minute},{(missed.minute - 5) % 60} * * * *"
    server = servers.Server(tmp_path / "home", "--mlflow", "none").start()
    try:
        server.post("/workflows", raw=SCHEDULED.format(schedule=schedule).encode())
        answer = server.post("/codesets?project=p&name=code")
        server.post("/workflows/assignments?name=nightly&codesetProject=p&codesetName=code")
        checkout = servers.Checkout(tmp_path / "code", answer["codeset"]["url"], answer["username"], answer["password"])
        (checkout.folder / "message").write_text("good night\n")
        commit = checkout.push("say it")
        server.stop()
        # Half an hour passes in which the server is down: for the store, what has been looked at and made is so much older.
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
        ticked = server.get("/runs")
        assert [item["name"] for item in ticked] == ["nightly-1"], "neither the other missed time nor this one again"
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


def test_waiting_for_a_push_follows_all_that_it_leads_to(server: servers.Server, tmp_path: pathlib.Path) -> None:
    """train makes a model, shrink makes a smaller one of it, and check fails on any whose version is 22."""
    shrink = SERVE.replace("NAME", "shrink").replace("SCRIPT", 'printf "${FUSEML_MODEL}2" > "$FUSEML_ENV_RESULTS/quantized"')
    check = SERVE.replace("NAME", "check").replace(
        "SCRIPT", '[ "$FUSEML_MODEL" != models:/answer/22 ] && echo good > "$FUSEML_ENV_RESULTS/quantized"'
    )
    for text in (TRAIN, shrink, check):
        server.post("/workflows", raw=text.encode())
    server.post("/codesets?project=chain&name=code")
    server.post("/workflows/assignments?name=train&codesetProject=chain&codesetName=code")
    (tmp_path / "code").mkdir()

    def pushed(version: int) -> tuple[int, dict[str, str]]:
        (tmp_path / "code" / "version").write_text(str(version))
        done = server.fuseml("push", tmp_path / "code", "-p", "chain", "-n", "code", "--wait", code=None)
        # Nothing was left unfinished when the command ended, and nothing came after it.
        states = {run["name"]: run["state"] for run in server.get("/runs?project=chain")}
        followed = set(re.findall(r"(\S+-\d+)  (?:succeeded|failed)", done.stdout))
        assert followed == {name for name in states if name in done.stdout}, commands.shown(done)
        return done.returncode, states

    code, states = pushed(1)
    assert code == 0
    assert states == dict.fromkeys(["train-1", "shrink-1", "check-1", "check-2"], "succeeded")

    code, states = pushed(2)
    assert code == 1
    new = {name: state for name, state in states.items() if name in ("train-2", "shrink-2", "check-3", "check-4")}
    assert sorted(new.values()) == ["failed", "succeeded", "succeeded", "succeeded"]
    assert server.get("/runs?project=chain&state=running") == server.get("/runs?project=chain&state=queued") == []
