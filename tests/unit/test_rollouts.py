"""The state of rollouts: of Deployments and pods as Kubernetes shows them, and of InferenceServices as KServe does."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.servings import rollout
from fuseml.servings.kserve import status


def pod(revision: int, *containers: dict[str, Any], ready: bool = False, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"wine-{revision}", "labels": {"fuseml.io/revision": str(revision)}, **metadata},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "server", "ready": ready, **container} for container in containers],
        },
    }


def read_log(pod: str, container: str, former: bool) -> str:
    return f"{pod} {container} {'former' if former else 'present'}\n\n"


BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, None),
        ({"state": {"running": {}}}, None),
        ({"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}, None),
        ({"state": {"terminated": {"reason": "Error", "exitCode": 1}}}, "wine-2 server present"),
        ({"state": {"terminated": {"reason": "OOMKilled", "message": "first\nno memory\n"}}}, "no memory"),
        ({"state": BACK_OFF, "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}}, "wine-2 server former"),
        # MLServer ends with code 0 when it cannot load a model.
        ({"state": BACK_OFF, "lastState": {"terminated": {"reason": "Completed", "exitCode": 0}}}, "wine-2 server former"),
        # In a pod of Knative it counts as ready as soon as it runs again.
        (
            {"state": {"running": {}}, "ready": True, "lastState": {"terminated": {"reason": "Completed", "exitCode": 0}}},
            "wine-2 server former",
        ),
        ({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}, "no such image"),
        ({"state": {"waiting": {"reason": "InvalidImageName"}}}, "InvalidImageName"),
    ],
)
def test_the_cause_is_that_of_the_container_that_failed(container: dict[str, Any], message: str | None) -> None:
    found = rollout.failure([pod(1, {"state": BACK_OFF}), pod(2, container)], 2, read_log)
    assert (found.message if found else None) == message


def test_a_container_whose_log_went_with_its_first_end_is_reported_at_the_next_one() -> None:
    again = {"state": {"running": {}}, "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}, "restartCount": 1}

    def gone(pod: str, container: str, former: bool) -> str:
        return "unable to retrieve container logs for containerd://d79b" if former else "begins"

    assert rollout.failure([pod(2, again)], 2, gone) is None
    found = rollout.failure([pod(2, again | {"restartCount": 2})], 2, gone)
    assert found is not None
    assert found.message == "it ended with exit code 1"


def test_a_pod_that_ends_has_not_failed() -> None:
    ended = {"state": {"terminated": {"reason": "Error", "exitCode": 137}}}
    assert rollout.failure([pod(2, ended, deletionTimestamp="now")], 2, read_log) is None


def test_an_init_container_that_was_repeated_has_not_failed() -> None:
    starting = pod(2, {"state": {"waiting": {"reason": "PodInitializing"}}})
    fetched = {
        "state": {"terminated": {"reason": "Completed", "exitCode": 0}},
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
    }
    starting["status"]["initContainerStatuses"] = [{"name": "storage-initializer", "ready": True, **fetched}]
    assert rollout.failure([starting], 2, read_log) is None


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("", ""),
        ("one\n\ntwo\n \n", "two"),
        ("Traceback (most recent call last):\n  File x\nOSError: no file\n2026 INFO - shutdown\n", "OSError: no file"),
        (
            "Traceback (most recent call last):\n  a\nValueError: first\n\nDuring handling ...\n\n"
            "Traceback (most recent call last):\n  b\n    ^^^\nRuntimeError: second\nbye\n",
            "RuntimeError: second",
        ),
        ("Traceback (most recent call last):\n  File x, cut off\n", "File x, cut off"),
        (
            "2026-12-01 18:54:44.451 1 storage.initializer ERROR [entrypoint:<module>():28] Storage initialization failed: no bucket 'a'.\n",
            "Storage initialization failed: no bucket 'a'.",
        ),
        ("2026-12-01 18:54:44.451 INFO of ERRORS\n", "2026-12-01 18:54:44.451 INFO of ERRORS"),
    ],
)
def test_the_cause_in_an_output_is_its_last_exception_or_its_last_line(output: str, cause: str) -> None:
    assert rollout.cause(output) == cause


def test_a_log_that_is_gone_leaves_the_exit_code_or_the_reason() -> None:
    def gone(pod: str, container: str, former: bool) -> str:
        raise errors.NotFoundError("no such pod")

    ended = {"state": {"terminated": {"reason": "Error", "exitCode": 137}}}
    found = rollout.failure([pod(2, ended)], 2, gone)
    assert found is not None
    assert found.message == "its log cannot be read: no such pod"
    for log in ("\n", "unable to retrieve container logs for containerd://d79bb1fbe05d"):
        found = rollout.failure([pod(2, ended)], 2, lambda *_, log=log: log)
        assert found is not None
        assert found.message == "it ended with exit code 137"


def test_requests_go_to_the_ready_pods_that_do_not_end() -> None:
    pods = [pod(1, ready=True), pod(1, ready=True, deletionTimestamp="now"), pod(2, ready=True), pod(2, ready=True), pod(3)]
    assert rollout.answering(pods) == {1: 33, 2: 67}
    assert rollout.answering([]) == {}


def test_a_former_pod_that_ends_lingers_while_it_is_ready() -> None:
    assert rollout.lingers([pod(1, ready=True, deletionTimestamp="now"), pod(2, ready=True)], {2: 100})
    assert not rollout.lingers([pod(1, deletionTimestamp="now"), pod(2, ready=True)], {2: 100})
    assert not rollout.lingers([pod(1, ready=True), pod(2, ready=True, deletionTimestamp="now")], {2: 100})


def deployment(revision: int = 2, **changes: int) -> dict[str, Any]:
    counts = {"observedGeneration": 3, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, **changes}
    template = {"metadata": {"labels": {"fuseml.io/revision": str(revision)}}}
    return {"metadata": {"generation": 3}, "spec": {"replicas": 1, "template": template}, "status": counts}


@pytest.mark.parametrize(
    "body",
    [
        deployment(revision=1),
        deployment(observedGeneration=2),
        deployment(replicas=2),
        deployment(availableReplicas=0),
        deployment(updatedReplicas=0, replicas=0, availableReplicas=0),
    ],
)
def test_a_rollout_is_complete_only_when_all_pods_are_available_and_new(body: dict[str, Any]) -> None:
    assert rollout.is_complete(deployment(), 2)
    assert not rollout.is_complete(body, 2)


def test_a_namespace_that_admits_no_pod_is_the_cause() -> None:
    message = 'pods "wine-1" is forbidden: violates PodSecurity "restricted:latest"'
    refused = {"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}}
    assert rollout.refusal(refused) == message
    assert rollout.refusal(deployment()) == ""


def inference_service(condition: dict[str, str], model: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "status": {
            "components": {"predictor": {"latestCreatedRevision": "wine-predictor-00002"}},
            "conditions": [{"type": "PredictorConfigurationReady", **condition}],
            "modelStatus": model or {"transitionStatus": "InProgress"},
        }
    }


def test_a_server_that_ends_with_code_0_is_a_failure_although_kserve_says_in_progress() -> None:
    message = 'Revision "wine-predictor-00002" failed with message: Container failed with: container exited with no error..'
    service = inference_service({"status": "False", "reason": "RevisionFailed", "message": message})
    assert status.load_failure(service) == "Container failed with: container exited with no error.."


def test_objects_that_kserve_cannot_make_are_a_failure() -> None:
    condition = {"type": "PredictorReady", "status": "False", "reason": "ReconcileFailed", "message": "failed creating host name"}
    service = {"status": {"conditions": [condition]}}
    assert status.invalid(service) == "failed creating host name"
    assert status.invalid({"status": {"conditions": [condition | {"reason": "MinimumReplicasUnavailable"}]}}) == ""


def test_a_runtime_that_is_not_there_is_named() -> None:
    failure = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
    service = inference_service({"status": "Unknown"}, {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure})
    service["spec"] = {"predictor": {"model": {"runtime": "kserve-tritonserver"}}}
    assert "no runtime 'kserve-tritonserver'" in status.invalid(service)


def test_the_failure_of_a_former_knative_revision_does_not_count() -> None:
    message = 'Revision "wine-predictor-00001" failed with message: Container failed with: killed.'
    assert status.load_failure(inference_service({"status": "False", "message": message})) == ""
    assert status.load_failure(inference_service({"status": "Unknown"})) == ""


def test_the_cause_of_a_failed_load_is_the_last_line_of_the_storage_initializer() -> None:
    failure = {"reason": "ModelLoadFailed", "exitCode": 1, "message": "Traceback\n  ...\nNo model found in sk/nowhere.\n"}
    model = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
    assert status.load_failure(inference_service({"status": "Unknown"}, model)) == "No model found in sk/nowhere."
