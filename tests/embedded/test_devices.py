"""Devices on a real server: shown at its start, waited for with a visible cause, kept across a kill, and refused where there are too few."""

from __future__ import annotations

import pathlib
from typing import Any

from tests.embedded import servers
from tests.waiting import wait_until

WORKFLOW = """
name: train
inputs:
  - {{name: gpus, default: "1"}}
steps:
  - name: fit
    image: fuseml.local/shell:1
    resources: {{limits: {{nvidia.com/gpu: "{{{{ inputs.gpus }}}}"}}}}
    script: |
      mkdir {shared}/$CUDA_VISIBLE_DEVICES || exit 9
      echo "$FUSEML_ENV_RUN on $CUDA_VISIBLE_DEVICES" >> {shared}/seen
      until test -e {shared}/go; do sleep 0.1; done
      rmdir {shared}/$CUDA_VISIBLE_DEVICES
"""


CAUSE = "waits for 1 nvidia.com/gpu (this machine has 1): other steps use them, or wait for them already"


def start(server: servers.Server, workflow: str = "train", **inputs: str) -> str:
    """The name of a new run."""
    request = server.post("/runs", {"workflow": workflow, "inputs": inputs})["request"]
    wait_until(lambda: server.get(f"/runs?request={request}"), "the request to become a run")
    name: str = server.get(f"/runs?request={request}")[0]["name"]
    return name


def step(server: servers.Server, run: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/runs/{run}")["steps"][0]
    return found


def test_devices_are_handed_out_to_one_step_at_a_time_also_by_the_server_after_a_killed_one(tmp_path: pathlib.Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    arguments = ("--mlflow", "none", "--allow-path", f"{shared}:rw", "--devices", "nvidia.com/gpu=3")
    with servers.running(tmp_path / "home", *arguments) as server:
        assert "devices nvidia.com/gpu 3; a step that asks for one has it alone" in server.output.read_text()
        server.post("/workflows", raw=WORKFLOW.format(shared=shared).encode())
        too_many = server.finished_run(start(server, gpus="2"))
        assert (too_many["state"], too_many["cause"]) == ("failed", "step 'fit' asks for 2 nvidia.com/gpu; this machine has 1")

        first = start(server)
        wait_until((shared / "seen").exists, "the first step")
        second = start(server)
        wait_until(lambda: step(server, second)["cause"], "the cause of the wait")
        server.kill()
        server.start()

        waiting = step(server, second)
        assert (waiting["state"], waiting["cause"]) == ("queued", CAUSE)
        assert "waits for 1 nvidia.com/gpu" in server.fuseml("run", "get", second).stdout
        assert "step fit waits for 1 nvidia.com/gpu" in server.get(f"/why?of={second}")["answer"]
        (shared / "go").touch()
        assert [server.finished_run(name)["state"] for name in (first, second)] == ["succeeded", "succeeded"]
        assert step(server, second)["cause"] is None
    assert (shared / "seen").read_text().splitlines() == [f"{first} on 3", f"{second} on 3"]


FLAKY = """
name: flaky
steps:
  - name: fit
    image: fuseml.local/shell:1
    retries: 1
    resources: {{limits: {{nvidia.com/gpu: "1"}}}}
    script: |
      test -e {shared}/failed && exit 0
      until test -e {shared}/fail; do sleep 0.1; done
      touch {shared}/failed
      exit 1
"""
GATED = """
name: gated
steps:
  - name: fit
    image: fuseml.local/shell:1
    approval: {{message: "fit?"}}
    resources: {{limits: {{nvidia.com/gpu: "1"}}}}
    script: "true"
"""


def test_a_wait_for_a_device_is_shown_after_a_failed_attempt_and_after_an_approval_as_at_the_first_start(tmp_path: pathlib.Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    arguments = ("--mlflow", "none", "--allow-path", f"{shared}:rw", "--devices", "nvidia.com/gpu=3")
    with servers.running(tmp_path / "home", *arguments) as server:
        for document in (WORKFLOW, FLAKY, GATED):
            server.post("/workflows", raw=document.format(shared=shared).encode())
        flaky = start(server, "flaky")
        wait_until(lambda: step(server, flaky)["state"] == "running", "the first attempt")
        holder = start(server)
        wait_until(lambda: step(server, holder)["cause"], "the cause of the wait")
        (shared / "fail").touch()
        gated = start(server, "gated")
        wait_until(lambda: step(server, gated)["state"] == "waiting", "the question")
        server.post(f"/runs/{gated}/approve", {})
        for run, attempts in ((flaky, 1), (gated, 0)):
            wait_until(lambda run=run: step(server, run)["state"] == "queued", f"the wait of {run}")  # type: ignore[misc]
            waiting = step(server, run)
            assert (waiting["cause"], waiting["attempts"]) == (CAUSE, attempts)
            assert "waits for 1 nvidia.com/gpu" in server.fuseml("run", "get", run).stdout
            assert "step fit waits for 1 nvidia.com/gpu" in server.get(f"/why?of={run}")["answer"]
        (shared / "go").touch()
        assert [server.finished_run(name)["state"] for name in (holder, flaky, gated)] == ["succeeded"] * 3
        assert [(step(server, name)["cause"], step(server, name)["attempts"]) for name in (flaky, gated)] == [(None, 2), (None, 1)]
