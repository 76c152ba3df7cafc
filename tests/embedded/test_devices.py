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


def start(server: servers.Server, **inputs: str) -> str:
    """The name of a new run."""
    request = server.post("/runs", {"workflow": "train", "inputs": inputs})["request"]
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
        assert (waiting["state"], waiting["cause"]) == (
            "queued",
            "waits for 1 nvidia.com/gpu (this machine has 1): other steps use them, or wait for them already",
        )
        assert "waits for 1 nvidia.com/gpu" in server.fuseml("run", "get", second).stdout
        assert "step fit waits for 1 nvidia.com/gpu" in server.get(f"/why?of={second}")["answer"]
        (shared / "go").touch()
        assert [server.finished_run(name)["state"] for name in (first, second)] == ["succeeded", "succeeded"]
        assert step(server, second)["cause"] is None
    assert (shared / "seen").read_text().splitlines() == [f"{first} on 3", f"{second} on 3"]
