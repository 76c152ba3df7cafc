"""kill -9 in the middle of a run, duplicates, and clean stops: nothing is lost and nothing happens twice."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import urllib3

from tests import commands
from tests.embedded import servers
from tests.waiting import PATIENCE, wait_until, wait_until_ready

WORKFLOW = """
name: slow
inputs:
  - name: code
    type: codeset
outputs:
  - name: answer
steps:
  - name: think
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {{name: "{{{{ inputs.code }}}}", path: /project}}
    script: |
      echo started >> {witness}
      while [ ! -e {gate} ]; do sleep 0.05; done
      printf 42 > "$FUSEML_ENV_RESULTS/thought"
    outputs:
      - name: thought
  - name: say
    image: fuseml.local/shell:1
    inputs:
      - name: thought
        value: "{{{{ steps.think.outputs.thought }}}}"
    script: printf "the answer is $FUSEML_THOUGHT" > "$FUSEML_ENV_RESULTS/answer"
    outputs:
      - name: answer
"""


def _options(folder: pathlib.Path) -> tuple[str, ...]:
    """Options of a server whose steps may write to the folder `shared`."""
    (folder / "shared").mkdir()
    return ("--mlflow", "none", "--allow-path", f"{folder / 'shared'}:rw")


def _prepare(server: servers.Server, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, servers.Checkout]:
    witness, gate = folder / "shared" / "witness", folder / "gate"
    server.post("/workflows", raw=WORKFLOW.format(witness=witness, gate=gate).encode())
    registered = server.post("/codesets?project=p&name=code")
    checkout = servers.Checkout(folder / "checkout", registered["codeset"]["url"], registered["username"], registered["password"])
    (checkout.folder / "train.py").write_text("print('hello')\n")
    server.post("/workflows/assignments?name=slow&codesetProject=p&codesetName=code")
    return witness, gate, checkout


def test_a_run_survives_the_death_of_the_server(tmp_path: pathlib.Path) -> None:
    server = servers.Server(tmp_path / "home", *_options(tmp_path)).start()
    try:
        witness, gate, checkout = _prepare(server, tmp_path)
        commit = checkout.push("think")
        wait_until(witness.exists, "the step to start")

        server.kill()
        gate.touch()
        server.start()
        run = server.finished_run("slow-1")

        assert (run["state"], run["outputs"], run["commit"]) == ("succeeded", {"answer": "the answer is 42"}, commit)
        assert [(step["name"], step["state"], step["attempts"]) for step in run["steps"]] == [
            ("think", "succeeded", 1),
            ("say", "succeeded", 1),
        ]
        assert witness.read_text() == "started\n"
        assert [run["name"] for run in server.get("/runs")] == ["slow-1"]
    finally:
        server.stop()


def test_a_push_whose_webhook_was_lost_is_found_by_the_sweep(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home", *_options(tmp_path)) as server:
        _, gate, checkout = _prepare(server, tmp_path)
        gate.touch()
        first = checkout.push("first")
        server.finished_run("slow-1")
        server.kill()
        # A push that reached the disk and nothing else: what a kill between the refs and the webhook leaves.
        (checkout.folder / "train.py").write_text("print('again')\n")
        servers.git(checkout.folder, "commit", "--quiet", "--all", "--message", "second")
        servers.git(checkout.folder, "push", "--quiet", str(server.home / "git" / "p" / "code.git"), "HEAD:refs/heads/main")
        second = servers.git(checkout.folder, "rev-parse", "HEAD")
        server.start()

        run = server.finished_run("slow-2")

        assert (run["state"], run["commit"]) == ("succeeded", second)
        assert [entry["commit"] for entry in server.get("/runs")] == [second, first]


def test_the_same_webhook_five_times_makes_one_run(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home", *_options(tmp_path)) as server:
        _, gate, checkout = _prepare(server, tmp_path)
        gate.touch()
        commit = checkout.push("once")
        server.finished_run("slow-1")
        body, headers = _redelivery(server, commit)

        answers = [
            server.call("POST", "/webhooks/gitea", raw=body, headers={**headers, "X-Gitea-Delivery": f"d-{count}"}) for count in range(5)
        ]

        assert [answer.status for answer in answers] == [202] * 5
        server.settled()
        assert [run["name"] for run in server.get("/runs")] == ["slow-1"]


def _redelivery(server: servers.Server, commit: str) -> tuple[bytes, dict[str, str]]:
    """The webhook of the push again, signed with the codeset's secret as the git host signs it."""
    script = f"""
import json, pathlib
from fuseml.githosts import payload
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import secrets
from fuseml.store import codesets, database
home = pathlib.Path({str(server.home)!r})
keyring = secrets.Keyring((home / "keys").read_text().split())
with database.Database(f"sqlite:///{{home / 'fuseml.db'}}").read() as session:
    secret = keyring.unseal(codesets.codeset(session, "p", "code").webhook_secret)
host = EmbeddedGitHost(home / "git", {server.url!r} + "/git")
change = payload.Change("refs/heads/main", payload.ZERO, {commit!r})
address = payload.CodesetAddress("p", "code", host.clone_url("p", "code"))
[recorded], _ = host.pushes("p", "code", 0)
with host.open("p", "code") as repository:
    for delivery in payload.deliveries(repository, change, address, recorded.pusher, secret):
        if delivery.event == "push":
            print(json.dumps([delivery.body.decode(), dict(delivery.headers)]))
"""
    body, headers = json.loads(commands.python(script).stdout)
    return body.encode(), headers


def test_a_clean_stop_ends_running_steps_and_is_reported_after_the_next_start(tmp_path: pathlib.Path) -> None:
    server = servers.Server(tmp_path / "home", *_options(tmp_path)).start()
    try:
        witness, gate, checkout = _prepare(server, tmp_path)
        checkout.push("think")
        wait_until(witness.exists, "the step to start")

        assert server.stop() == 0
        left = commands.run(["ps", "-e", "-o", "args="]).stdout
        server.start()
        run = server.finished_run("slow-1")

        assert str(gate) not in left
        assert run["state"] == "failed"
        assert "stopped" in run["cause"]
    finally:
        server.stop()


def test_two_servers_cannot_share_a_home(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home", *_options(tmp_path)) as server:
        environment = {**os.environ, "NO_COLOR": "1"}
        second = commands.fuseml("up", "--home", server.home, "--port", "0", "--mlflow", "none", environment=environment, code=1)

        assert second.stdout == ""
        assert f"process {server.pid}" in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1


# What a server holds that many repositories are read on: more files than select() takes.
_CROWDED = """
import os, resource, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 4096), limit))
for _ in range(1100):
    os.set_inheritable(os.dup(0), True)
os.execv(sys.executable, [sys.executable, "-m", "fuseml.cli.main", "up", *sys.argv[1:]])
"""


def test_a_server_with_more_than_a_thousand_open_files_answers(tmp_path: pathlib.Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", _CROWDED, "--home", str(home), "--port", "0", "--mlflow", "none"]
    output = tmp_path / "output"
    with output.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            wait_until_ready(process, (home / "url").exists, "the server", output.read_text)
            url = (home / "url").read_text().strip()
            assert urllib3.request("GET", f"{url}/healthz", retries=False, timeout=PATIENCE).status == 200
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
