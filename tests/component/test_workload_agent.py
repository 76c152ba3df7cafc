"""The shipped workload agent: jobs by its protocol, their idempotence, cancellation, and kills of the agent."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fuseml.agents import jobs
from fuseml.domain import errors
from fuseml.engines.local import process
from tests import agents, waiting
from tests.waiting import PATIENCE

JOBS = "/workload/v1/jobs"
SCRIPT = """#!/bin/sh
echo "begins $FUSEML_TEXT"
case "$FUSEML_MODE" in
  fail) echo "nonsense" >&2; exit 3;;
  wait) while [ ! -e "$FUSEML_GATE" ]; do sleep 0.05; done;;
  ignore) trap '' TERM; touch "$FUSEML_GATE"; while :; do sleep 0.05; done;;
  link) ln -s /etc/passwd "$FUSEML_ENV_RESULTS/stolen";;
esac
echo "$FUSEML_ENV_RUN" >> count
printf 'heard %s' "$FUSEML_TEXT" > "$FUSEML_ENV_RESULTS/answer"
wc -l < count | tr -d ' \\n' > "$FUSEML_ENV_RESULTS/count"
env | grep -c canary > "$FUSEML_ENV_RESULTS/secrets"
exit 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="module")
def command(folder: Path) -> str:
    script = folder / "job.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def agent(folder: Path, command: str) -> Iterator[agents.Running]:
    with agents.command(folder / "running", command) as running:
        yield running


def call(agent: agents.Running, method: str, path: str, body: object = None, token: str | None = agents.TOKEN) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # A server that refuses a request before it reads the body closes the connection.
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request(method, f"{agent.url}{path}", json=body, headers=headers, timeout=PATIENCE)
    return answer.status, json.loads(answer.data) if "json" in answer.headers.get("Content-Type", "") else answer.data


def start(agent: agents.Running, id: str, **parameters: str) -> Any:
    status, body = call(agent, "PUT", f"{JOBS}/{id}", {"parameters": parameters, "project": "demo", "run": "train-1"})
    assert status == 200, body
    return body


def ended(agent: agents.Running, id: str) -> Any:
    def end() -> Any:
        _, body = call(agent, "GET", f"{JOBS}/{id}")
        return body if body["state"] in ("succeeded", "failed", "cancelled") else None

    return waiting.wait_until(end, "the end of the job")


def test_a_job_gets_its_parameters_and_its_outputs_are_read(agent: agents.Running) -> None:
    assert start(agent, "one", text="größer", mode="")["state"] in ("queued", "running", "succeeded")
    end = ended(agent, "one")
    assert (end["id"], end["state"], end["cause"]) == ("one", "succeeded", "")
    assert 0 < end["started"] <= end["finished"]
    assert call(agent, "GET", f"{JOBS}/one/outputs") == (200, {"outputs": {"answer": "heard größer", "count": "1", "secrets": "0\n"}})
    status, log = call(agent, "GET", f"{JOBS}/one/logs")
    assert (status, log.decode()) == (200, "begins größer\n")
    assert call(agent, "GET", f"{JOBS}/one/logs?offset=7")[1].decode() == "größer\n"
    assert call(agent, "GET", f"{JOBS}/one/logs?offset=1000000") == (200, b"")


def test_a_repeated_start_changes_nothing_and_another_job_is_a_conflict(agent: agents.Running) -> None:
    for _ in range(3):
        start(agent, "repeated", text="a")
    first = ended(agent, "repeated")
    assert start(agent, "repeated", text="a") == first
    assert call(agent, "GET", f"{JOBS}/repeated/outputs")[1]["outputs"]["count"] == "1"
    status, body = call(agent, "PUT", f"{JOBS}/repeated", {"parameters": {"text": "b"}})
    assert (status, body["name"]) == (409, "conflict")


def test_a_failed_job_has_its_cause_and_no_outputs(agent: agents.Running) -> None:
    start(agent, "failing", mode="fail")
    assert ended(agent, "failing")["cause"] == "the command ended with code 3"
    assert call(agent, "GET", f"{JOBS}/failing/outputs")[0] == 409
    start(agent, "stealing", mode="link")
    assert ended(agent, "stealing")["state"] == "succeeded"
    status, body = call(agent, "GET", f"{JOBS}/stealing/outputs")
    assert (status, body["message"]) == (400, "an output of the job 'stealing' is no regular file")


@pytest.mark.parametrize("mode", ["wait", "ignore"])
def test_a_job_is_cancelled_also_if_it_ignores_the_signal(agent: agents.Running, tmp_path: Path, mode: str) -> None:
    id, gate = f"cancelled-{mode}", tmp_path / "gate"
    start(agent, id, mode=mode, gate=str(gate))
    waiting.wait_until(lambda: call(agent, "GET", f"{JOBS}/{id}/logs")[1], "the first line")
    if mode == "ignore":
        waiting.wait_until(gate.exists, "the trap")
    assert call(agent, "POST", f"{JOBS}/{id}/cancel")[0] == 200
    # Not the agent's grace: the cancellation was long ago.
    if mode == "ignore":
        os.utime(agent.folder / "jobs" / id / "cancelled", (1, 1))
    assert ended(agent, id)["state"] == "cancelled"
    assert call(agent, "POST", f"{JOBS}/{id}/cancel")[1]["state"] == "cancelled"
    assert start(agent, id, mode=mode, gate=str(gate))["state"] == "cancelled"


def test_a_cancellation_after_the_end_changes_nothing(agent: agents.Running) -> None:
    start(agent, "done", text="a")
    end = ended(agent, "done")
    assert call(agent, "POST", f"{JOBS}/done/cancel") == (200, end)


@pytest.mark.parametrize("token", [None, "", "wrong-token-of-some-length"])
def test_a_caller_without_the_token_is_refused(agent: agents.Running, token: str | None) -> None:
    for method, path in (("PUT", "/x"), ("GET", "/x"), ("GET", "/x/logs"), ("POST", "/x/cancel"), ("GET", "/x/outputs")):
        assert call(agent, method, JOBS + path, {} if method == "PUT" else None, token)[0] == 401
    assert call(agent, "GET", "/workload/v1", token=token) == (200, {"protocol": "fuseml.workload/1"})


@pytest.mark.parametrize("id", [".x", "-x", "a b", "x" * 201, "a;b"])
def test_an_invalid_id_is_refused(agent: agents.Running, id: str) -> None:
    for method, end in (("PUT", ""), ("GET", ""), ("GET", "/logs"), ("POST", "/cancel"), ("GET", "/outputs")):
        assert call(agent, method, f"{JOBS}/{id.replace(' ', '%20')}{end}", {} if method == "PUT" else None)[0] == 400


@pytest.mark.parametrize(
    "parameters", [{"a b": "1"}, {"a": "x\0"}, {"a": "x" * 70_000}, {"a": 1}, {f"a{number}": "" for number in range(201)}]
)
def test_invalid_parameters_are_refused(agent: agents.Running, parameters: dict[str, object]) -> None:
    assert call(agent, "PUT", f"{JOBS}/odd", {"parameters": parameters})[0] == 400
    assert call(agent, "GET", f"{JOBS}/odd")[0] == 404


@pytest.mark.parametrize("odd", [{"run": "x\0"}, {"project": "\0"}, {"run": "x" * 70_000}])
def test_text_that_no_environment_holds_is_refused(agent: agents.Running, odd: dict[str, object]) -> None:
    assert call(agent, "PUT", f"{JOBS}/odd", {"parameters": {}, **odd})[0] == 400
    assert call(agent, "GET", f"{JOBS}/odd")[0] == 404


@pytest.mark.parametrize("odd", [jobs.Job(run="\ud800"), jobs.Job(project="\udfff"), jobs.Job(parameters={"a": "\udfff"})])
def test_a_half_of_a_surrogate_pair_is_refused(odd: jobs.Job) -> None:
    with pytest.raises(errors.InvalidError, match=r"the (run|project) of a job is text|the parameter 'a' has a character that no variable"):
        jobs.check(odd)


def test_the_end_of_a_killed_job_is_final(agent: agents.Running, tmp_path: Path) -> None:
    start(agent, "killed", mode="wait", gate=str(tmp_path / "gate"))
    waiting.wait_until(lambda: call(agent, "GET", f"{JOBS}/killed/logs")[1], "the first line")
    folder = agent.folder / "jobs" / "killed"
    process.adopt(folder).kill()
    waiting.wait_until(lambda: not process.held(folder), "the end of the supervisor")
    (folder / "exit").unlink(missing_ok=True)
    assert call(agent, "GET", f"{JOBS}/killed")[1]["state"] == "failed"
    assert call(agent, "POST", f"{JOBS}/killed/cancel")[1]["state"] == "failed"


def test_jobs_survive_a_killed_agent(tmp_path: Path, command: str) -> None:
    gate = tmp_path / "gate"
    with agents.command(tmp_path, command) as agent:
        start(agent, "long", mode="wait", gate=str(gate), text="a")
        waiting.wait_until(lambda: call(agent, "GET", f"{JOBS}/long/logs")[1], "the first line")
        # gunicorn's master and its worker.
        group = [int(pid) for pid in Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()]
        for pid in (agent.process.pid, *group):
            os.kill(pid, signal.SIGKILL)
    with agents.command(tmp_path, command) as agent:
        assert call(agent, "GET", f"{JOBS}/long")[1]["state"] == "running"
        gate.touch()
        assert ended(agent, "long")["state"] == "succeeded"
        assert start(agent, "long", mode="wait", gate=str(gate), text="a")["state"] == "succeeded"
        assert call(agent, "GET", f"{JOBS}/long/outputs")[1]["outputs"]["count"] == "1"


def test_a_job_that_was_recorded_and_not_begun_is_begun(tmp_path: Path, command: str) -> None:
    with agents.command(tmp_path, command) as agent:
        start(agent, "template", text="a")
        ended(agent, "template")
        for name in ("work", "results"):
            (agent.folder / "jobs" / "recorded" / name).mkdir(parents=True)
        (agent.folder / "jobs" / "recorded" / "job.json").write_bytes((agent.folder / "jobs" / "template" / "job.json").read_bytes())
        assert ended(agent, "recorded")["state"] == "succeeded"
        assert start(agent, "recorded", text="a")["state"] == "succeeded"
