"""The failures of pods that `task deploy` reports."""

from __future__ import annotations

from typing import Any

import pytest

from infra.deploy import cluster


def pod(waiting: dict[str, Any], **last: Any) -> dict[str, Any]:
    started = {"name": "queue-proxy", "state": {"running": {}}}
    return {"status": {"containerStatuses": [started, {"name": "user-container", "state": {"waiting": waiting}, "lastState": last}]}}


@pytest.mark.parametrize(
    ("pod", "failure"),
    [
        ({}, None),
        ({"status": {"phase": "Pending"}}, None),
        (pod({"reason": "ContainerCreating"}), None),
        (pod({"reason": "PodInitializing"}), None),
        (pod({"reason": "ErrImagePull", "message": "no such image"}), "ErrImagePull: no such image"),
        (
            pod({"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, terminated={"exitCode": 3, "message": "Traceback\n  ...\nit is broken\n"}),
            "CrashLoopBackOff: it is broken",
        ),
        (pod({"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, terminated={"exitCode": 3}), "CrashLoopBackOff: it ended with exit code 3"),
        (pod({"reason": "CreateContainerConfigError"}), "CreateContainerConfigError"),
        ({"status": {"initContainerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}, "ImagePullBackOff"),
    ],
)  # fmt: skip
def test_the_failure_of_a_pod_is_its_reason_and_last_message(pod: dict[str, Any], failure: str | None) -> None:
    assert cluster.failure_of(pod) == failure
