"""A function's pod is killed while it handles an event, on a real cluster: the broker delivers again, and there is one effect.

What the function does is stopped in its middle by holding the database's one writer's turn.
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

from .deployment import Deployment, found, kubectl, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FUNCTION = "artifacts"
_WAITING = sqlalchemy.text("SELECT host(client_addr) FROM pg_stat_activity WHERE wait_event = 'advisory'")


def pods() -> dict[str, str]:
    """Name -> address of the function's pods."""
    items = found("pods", f"--selector=serving.knative.dev/service={FUNCTION}")
    return {item["metadata"]["name"]: item["status"].get("podIP", "") for item in items if "deletionTimestamp" not in item["metadata"]}


def _tell(sink: str, headers: Mapping[str, str], body: bytes) -> None:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        urllib3.request("POST", sink, body=body, headers=headers, timeout=PATIENCE, retries=False)


def test_a_pod_that_is_killed_in_the_middle_of_an_event_leaves_one_effect(
    deployment: Deployment, store: database.Database, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["K_SINK"]
    project, commit = f"killed{os.urandom(3).hex()}", os.urandom(20).hex()
    event = events.event(events.CodesetPushed(project=project, codeset="code", ref="refs/heads/main", commit=commit), clock.now())
    headers, body = cloudevents.encode(event)

    with store.write() as session:
        session.connection()
        # The in-memory broker answers when all consumers have; nobody waits for that here.
        telling = threading.Thread(target=_tell, args=(sink, headers, body))
        telling.start()

        def in_the_middle() -> set[str]:
            with store.engine.connect() as connection:
                waiting = set(connection.execute(_WAITING).scalars())
            return {name for name, address in pods().items() if address in waiting}

        wait_until(in_the_middle, f"{FUNCTION} to handle the event")
        killed = in_the_middle()
        kubectl("delete", "pod", *killed, "--namespace=fuseml", "--grace-period=0", "--force")
        wait_until(lambda: not killed & pods().keys(), "the pod to be gone")
    begun = time.monotonic()
    telling.join()

    wait_until(lambda: deployment.told(f"/artifacts?project={project}"), "the event to be handled again")
    with capsys.disabled():
        sys.stderr.write(
            f"\n{', '.join(killed)} killed, the effect is there {time.monotonic() - begun:.1f} s after the database could go on\n"
        )
    assert [item["version"] for item in deployment.told(f"/artifacts?project={project}")] == [commit]
    time.sleep(10)
    assert len(deployment.told(f"/artifacts?project={project}")) == 1
    recorded = [item for item in deployment.told("/events?type=artifact.recorded&limit=100") if project in json.dumps(item)]
    assert len(recorded) == 1
    assert project not in json.dumps(deployment.told("/events/dead-letters"))
