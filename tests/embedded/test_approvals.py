"""Runs that wait for approvals, on a real server that is killed while they wait."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import commands
from tests.embedded import servers
from tests.waiting import PATIENCE, wait_until

WORKFLOW = """
name: release
outputs:
  - name: served
steps:
  - name: train
    image: fuseml.local/shell:1
    script: echo model-7 > "$FUSEML_ENV_RESULTS/model"
    outputs:
      - name: model
  - name: serve
    image: fuseml.local/shell:1
    approval:
      message: serve the new model?
      expires: 1d
    inputs:
      - name: model
        value: "{{ steps.train.outputs.model }}"
    script: |
      echo "serving $FUSEML_MODEL"
      echo "$FUSEML_MODEL by $FUSEML_ENV_RUN" > "$FUSEML_ENV_RESULTS/served"
    outputs:
      - name: served
  - name: announce
    image: fuseml.local/shell:1
    needs: [serve]
    script: "true"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("approvals") / "home", "--mlflow", "none") as running:
        running.post("/workflows", raw=WORKFLOW.encode())
        running.post("/workflows", raw=WORKFLOW.replace("name: release", "name: hasty").replace("expires: 1d", "expires: 5s").encode())
        yield running


def waiting(server: servers.Server, workflow: str = "release") -> dict[str, Any]:
    """Start a run and wait until it waits for its approval; the run."""
    request = server.post("/runs", {"workflow": workflow, "project": "p"})["request"]
    wait_until(lambda: server.get(f"/runs?request={request}&state=waiting"), "the run to wait")
    return dict(server.get(f"/runs?request={request}")[0])


def states(run: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in run["steps"]}


def test_a_waiting_run_survives_a_crash_of_the_server_and_continues_when_approved(server: servers.Server) -> None:
    run = waiting(server)
    assert states(run) == {"train": "succeeded", "serve": "waiting", "announce": "queued"}
    assert run["steps"][1]["approval"]["message"] == "serve the new model?"
    server.kill()
    server.start()
    assert server.get(f"/runs/{run['name']}")["state"] == "waiting"
    engine = server.home / "runs"
    assert not list(engine.glob(f"{run['id']}*/steps/serve")), "the step must not exist before it is approved"

    approved = server.post(f"/runs/{run['name']}/approve", {"comment": "better than model-6"})
    # The request stores the decision; the server may crash at once.
    server.kill()
    server.start()

    finished = server.finished_run(run["name"])
    assert (finished["state"], finished["outputs"]) == ("succeeded", {"served": f"model-7 by {run['name']}"})
    assert states(finished) == {"train": "succeeded", "serve": "succeeded", "announce": "succeeded"}
    approval = finished["steps"][1]["approval"]
    assert (approval["decision"], approval["by"], approval["comment"]) == ("approved", "admin", "better than model-6")
    assert approval == approved["steps"][1]["approval"]
    assert approval["asked"] < approval["decided"] < finished["steps"][1]["started"]
    assert server.call("GET", f"/runs/{run['name']}/logs/serve").body == b"serving model-7\n"
    assert server.call("POST", f"/runs/{run['name']}/approve").status == 409


def test_a_rejected_run_fails_with_the_comment(server: servers.Server) -> None:
    run = waiting(server)
    watch = subprocess.Popen([*commands.FUSEML, "run", "watch", run["name"]], env=server.environment, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    advice = f"waits for an approval of serve: fuseml run approve {run['name']}, or reject"
    assert any(advice in line for line in watch.stdout)
    assert f"{run['name']} {advice}\n" in server.fuseml("run", "get", run["name"]).stdout
    assert run["name"] in server.fuseml("run", "list", "--state", "waiting").stdout

    rejection = server.fuseml("run", "reject", run["name"], "--comment", "it is too slow")

    assert rejection.stdout == f"Run {run['name']} is rejected and fails.\n"
    rest = watch.communicate(timeout=PATIENCE)[0]
    assert "failed" in rest
    assert "rejected by admin: it is too slow" in rest
    assert watch.returncode == 1
    output = server.fuseml("run", "get", run["name"]).stdout
    assert re.search(r"rejected by admin at \d{4}-\d\d-\d\d \d\d:\d\d \w+: it is too slow", output)
    finished = server.get(f"/runs/{run['name']}")
    assert (finished["state"], finished["cause"]) == ("failed", "step 'serve' failed: rejected by admin: it is too slow")
    assert states(finished) == {"train": "succeeded", "serve": "failed", "announce": "skipped"}


def test_an_expired_approval_fails_the_run(server: servers.Server) -> None:
    run = waiting(server, "hasty")
    finished = server.finished_run(run["name"])
    assert finished["cause"] == "step 'serve' failed: not approved within 5s"
    # The run can be resumed, and waits for an approval again.
    request = server.post(f"/runs/{run['name']}/resume")["request"]
    wait_until(lambda: server.get(f"/runs?request={request}&state=waiting"), "the resumed run to wait")
    [resumed] = server.get(f"/runs?request={request}")
    server.post(f"/runs/{resumed['name']}/approve")
    assert server.finished_run(resumed["name"])["outputs"] == {"served": f"model-7 by {resumed['name']}"}


def test_a_waiting_run_can_be_cancelled(server: servers.Server) -> None:
    run = waiting(server)
    server.post(f"/runs/{run['name']}/cancel?reason=changed+my+mind")
    finished = server.finished_run(run["name"])
    assert (finished["state"], finished["cause"], states(finished)["serve"]) == ("cancelled", "changed my mind", "skipped")
