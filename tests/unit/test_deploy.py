"""What `task deploy` tells of pods that do not come up."""

from __future__ import annotations

from typing import Any

import pytest

from infra.deploy import cluster


def pod(waiting: dict[str, Any], **last: Any) -> dict[str, Any]:
    started = {"name": "queue-proxy", "state": {"running": {}}}
    return {"status": {"containerStatuses": [started, {"name": "user-container", "state": {"waiting": waiting}, "lastState": last}]}}


@pytest.mark.parametrize(
    ("found", "told"),
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
def test_a_pod_that_does_not_run_says_why(found: dict[str, Any], told: str | None) -> None:
    assert cluster.trouble_of(found) == told
