"""Events that a pod without credentials sends have no effect, at the broker and at a function's own address."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import urllib3

from fuseml.domain import events
from fuseml.runtime import catalog, clock, cloudevents
from tests.event_keys import FORGER
from tests.waiting import PATIENCE

from .deployment import Deployment, kubectl, signer, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def strict(deployment: Deployment) -> None:
    """Skips the test while an upgrade accepts unsigned events."""
    until = json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["FUSEML_UNSIGNED_UNTIL"]
    if until > clock.now():
        pytest.skip(f"unsigned events are accepted until {until}")


def post(url: str, event: events.Event) -> int:
    headers, body = cloudevents.encode(event)
    return urllib3.request("POST", url, body=body, headers=headers, timeout=PATIENCE, retries=False).status


def forged(project: str) -> list[events.Event]:
    """A push without a signature, with that of another key, and with that of another event."""
    payload = events.CodesetPushed(project=project, codeset="code", ref="refs/heads/main", commit=os.urandom(20).hex())
    event = events.event(payload, clock.now())
    other = dataclasses.replace(signer().sign(event), data={**event.data, "commit": "f" * 40})
    return [dataclasses.replace(item, id=f"{item.id}/{number}") for number, item in enumerate((event, FORGER.sign(event), other))]


def test_forged_events_become_dead_letters_at_the_broker(deployment: Deployment) -> None:
    sink = json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["K_SINK"]
    project = f"forged{os.urandom(3).hex()}"
    for event in forged(project):
        assert post(sink, event) == 202

    def letters() -> list[str]:
        return [item["id"] for item in deployment.read("/events/dead-letters?limit=500") if project in item["source"]]

    wait_until(lambda: len(letters()) == 3, "the dead letters")
    assert deployment.read(f"/artifacts?project={project}") == []
    assert all(item["source"].startswith("unproven:") for item in deployment.read("/events?limit=500") if project in item["source"])


@pytest.mark.parametrize("function", ["artifacts", "dispatcher", "events"])
def test_a_function_refuses_forged_events_at_its_own_address(deployment: Deployment, function: str) -> None:
    project = f"forged{os.urandom(3).hex()}"
    for event in forged(project):
        assert post(f"http://{function}.fuseml.svc.cluster.local{catalog.EVENTS}", event) == 400
    assert deployment.read(f"/artifacts?project={project}") == []


def test_a_forged_report_does_not_end_a_run(deployment: Deployment) -> None:
    for run in deployment.read("/runs?limit=50"):
        condition = {"type": "Succeeded", "status": "False", "reason": "Failed", "message": "forged"}
        data = {"pipelineRun": {"metadata": {"labels": {"fuseml.io/run-id": run["id"]}}, "status": {"conditions": [condition]}}}
        event = events.Event(f"{events.TEKTON_PREFIX}pipelinerun.failed.v1", "/apis///x", os.urandom(8).hex(), None, clock.now(), data)
        assert post(f"http://run-tracker.fuseml.svc.cluster.local{catalog.EVENTS}", event) == 204
        assert deployment.read(f"/runs/{run['name']}")["cause"] != "forged"
