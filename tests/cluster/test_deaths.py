"""A pod of a function is killed while it handles an event, on a real cluster: the broker redelivers, and the event has one effect.

The test holds the write lock of the database, which blocks the function in the middle of the event.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping

import pytest
import sqlalchemy
import urllib3

from fuseml.domain import events
from fuseml.runtime import clock, cloudevents
from fuseml.store import database
from tests.waiting import PATIENCE

from .deployment import Deployment, kubectl, resources, signer, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FUNCTION = "artifacts"
_WAITING = sqlalchemy.text("SELECT host(client_addr) FROM pg_stat_activity WHERE wait_event = 'advisory'")


def pods() -> dict[str, str]:
    """Name -> address of the function's pods."""
    items = resources("pods", f"--selector=serving.knative.dev/service={FUNCTION}")
    return {item["metadata"]["name"]: item["status"].get("podIP", "") for item in items if "deletionTimestamp" not in item["metadata"]}


def _send(sink: str, headers: Mapping[str, str], body: bytes) -> None:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        urllib3.request("POST", sink, body=body, headers=headers, timeout=PATIENCE, retries=False)


def test_an_event_has_one_effect_when_a_pod_is_killed_while_handling_it(
    deployment: Deployment, store: database.Database, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["K_SINK"]
    project, commit = f"killed{os.urandom(3).hex()}", os.urandom(20).hex()
    event = events.event(events.CodesetPushed(project=project, codeset="code", ref="refs/heads/main", commit=commit), clock.now())
    headers, body = cloudevents.encode(signer().sign(event))

    with store.write() as session:
        session.connection()
        # The in-memory broker responds after all consumers; the test does not wait for that.
        sender = threading.Thread(target=_send, args=(sink, headers, body))
        sender.start()

        def blocked_pods() -> set[str]:
            with store.engine.connect() as connection:
                waiting = set(connection.execute(_WAITING).scalars())
            return {name for name, address in pods().items() if address in waiting}

        wait_until(blocked_pods, f"{FUNCTION} handles the event")
        killed = blocked_pods()
        kubectl("delete", "pod", *killed, "--namespace=fuseml", "--grace-period=0", "--force")
        wait_until(lambda: not killed & pods().keys(), "the pod is gone")
    start = time.monotonic()
    sender.join()

    wait_until(lambda: deployment.read(f"/artifacts?project={project}"), "the event is handled again")
    with capsys.disabled():
        sys.stderr.write(
            f"\n{', '.join(killed)} killed, the effect is there {time.monotonic() - start:.1f} s after the database was unlocked\n"
        )
    assert [item["version"] for item in deployment.read(f"/artifacts?project={project}")] == [commit]
    time.sleep(10)
    assert len(deployment.read(f"/artifacts?project={project}")) == 1
    recorded = [item for item in deployment.read("/events?type=artifact.recorded&limit=100") if project in json.dumps(item)]
    assert len(recorded) == 1
    assert project not in json.dumps(deployment.read("/events/dead-letters"))
