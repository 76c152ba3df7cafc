"""`task deploy`: the obstacles that it reports and gives up on, stale pods, images from a mirror, the end by an interruption, keys of events, the
time for an upgrade, addresses that steps may not call.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.deployment import cluster, command, functions, images, obstacles
from fuseml.domain.images import installed, mirrored
from fuseml.runtime import secrets, signing
from tests import waiting
from tests.contract.manifests import ROOT, documents


def pod(waiting: dict[str, Any], **last: Any) -> dict[str, Any]:
    started = {"name": "queue-proxy", "state": {"running": {}}}
    return {"status": {"containerStatuses": [started, {"name": "user-container", "state": {"waiting": waiting}, "lastState": last}]}}


def restarted(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "c", "ready": False, "restartCount": 2, "state": state, **more}]}}


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"status": {"phase": "Pending", "conditions": [condition]}}


@pytest.mark.parametrize(
    ("pod", "failure", "remedy"),
    [
        ({}, None, ""),
        ({"status": {"phase": "Pending"}}, None, ""),
        (pod({"reason": "ContainerCreating"}), None, ""),
        (pod({"reason": "PodInitializing"}), None, ""),
        (pod({"reason": "ErrImagePull", "message": "no such image"}), "ErrImagePull: no such image", "--gitea-image"),
        (pod({"reason": "ImagePullBackOff", "message": "back-off"}), "ImagePullBackOff: back-off", "--registry MIRROR"),
        (pod({"reason": "InvalidImageName", "message": "bad"}), "InvalidImageName: bad", "--gitea-image"),
        (
            pod({"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, terminated={"exitCode": 3, "message": "Traceback\n  ...\nit is broken\n"}),
            "CrashLoopBackOff: it is broken", "kubectl logs",
        ),
        (pod({"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}, terminated={"exitCode": 3}), "CrashLoopBackOff: it ended with exit code 3", "--previous"),
        (restarted({"running": {}}, lastState={"terminated": {"exitCode": 1}}), "CrashLoopBackOff: it ended with exit code 1", "--previous"),
        (restarted({"terminated": {"exitCode": 1, "message": "no\n"}}), "CrashLoopBackOff: no", "--previous"),
        (restarted({"running": {}}, ready=True, lastState={"terminated": {"exitCode": 1}}), None, ""),
        (restarted({"terminated": {"exitCode": 0}}), None, ""),
        (pod({"reason": "CreateContainerConfigError"}), "CreateContainerConfigError", "kubectl describe pod"),
        ({"status": {"initContainerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}, "ImagePullBackOff", "--gitea-image"),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.", "kubectl describe nodes"),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "Unschedulable: pod has unbound immediate PersistentVolumeClaims", "storage class"),
    ],
)  # fmt: skip
def test_the_obstacle_of_a_pod_has_its_reason_its_last_message_and_a_remedy(pod: dict[str, Any], failure: str | None, remedy: str) -> None:
    obstacle = obstacles.of_pod(pod, "--gitea-image")
    assert (obstacle.text if obstacle else None) == failure
    assert remedy in (obstacle.remedy if obstacle else "")


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('pods "postgresql-0" is forbidden: exceeded quota: small, requested: memory=128Mi', "raise the resource quota"),
        ('pods "gitea-0" is forbidden: violates PodSecurity "restricted:latest": ...', "pod security standard"),
        ('admission webhook "policy.example.com" denied the request: no', "a policy of the cluster"),
        ("the server is overloaded", "kubectl get events"),
    ],
)
def test_a_refused_pod_is_an_obstacle_with_a_remedy(message: str, remedy: str) -> None:
    obstacle = obstacles.of_event({"reason": "FailedCreate", "message": message})
    assert obstacle is not None
    assert message in obstacle.text
    assert remedy in obstacle.remedy
    assert obstacles.of_event({"reason": "Scheduled", "message": message}) is None


@pytest.mark.parametrize(
    ("owner", "app"),
    [("postgresql", "postgresql"), ("migration", "migration"), ("dispatcher-00002-deployment-6b8c", "dispatcher"), ("run-tracker-00001-deployment", "run-tracker")],
)  # fmt: skip
def test_the_application_of_a_controller(owner: str, app: str) -> None:
    assert obstacles.app_of(owner) == app


def seen(*reasons: str | None, step: float = 10.0) -> tuple[list[str], list[bool]]:
    """The texts that a watch reports, and whether it gives up, for obstacles at intervals of `step` seconds."""
    now = [0.0]
    watch = obstacles.Watch(lambda: now[0])
    texts, ends = [], []
    for reason in reasons:
        texts.append(watch.see(obstacles.of_pod(pod({"reason": reason, "message": "m"})) if reason else None))
        ends.append(watch.is_final)
        now[0] += step
    return texts, ends


def test_an_obstacle_is_reported_once_and_ends_the_wait_after_its_patience() -> None:
    texts, ends = seen("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff", "ImagePullBackOff")
    assert [bool(text) for text in texts] == [True, False, False, False, False]
    # The failures of one pull and its repetitions are one obstacle.
    assert ends == [False, False, False, True, True]


def test_an_obstacle_that_passes_does_not_end_the_wait() -> None:
    _, ends = seen("ImagePullBackOff", None, "ImagePullBackOff", "CrashLoopBackOff", "ImagePullBackOff", None)
    assert not any(ends)


@pytest.mark.parametrize("reason", ["InvalidImageName", "ImagePullBackOff", "CreateContainerConfigError", "CrashLoopBackOff"])
def test_every_obstacle_ends_the_wait_at_some_time(reason: str) -> None:
    assert seen(*[reason] * 100)[1][-1]


def stateful_set(update: str = "new", observed: int = 2) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "updateRevision": update}}


def replica(revision: str | None, *, ready: bool = False, ending: bool = False) -> dict[str, Any]:
    labels = {"controller-revision-hash": revision} if revision else {}
    metadata = {"name": "gitea-0", "labels": labels, **({"deletionTimestamp": "now"} if ending else {})}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


@pytest.mark.parametrize(
    ("set_", "pods", "names"),
    [
        (stateful_set(), [replica("old")], ["gitea-0"]),
        (stateful_set(), [replica("new")], []),
        (stateful_set(), [replica("old", ready=True)], []),
        (stateful_set(), [replica("old", ending=True)], []),
        (stateful_set(), [replica(None)], []),
        (stateful_set(), [], []),
        (stateful_set(observed=1), [replica("old")], []),
        (stateful_set(""), [replica("old")], []),
        ({"metadata": {}}, [replica("old")], []),
    ],
)
def test_only_a_broken_pod_of_an_earlier_template_is_replaced(
    set_: dict[str, Any], pods: Sequence[dict[str, Any]], names: list[str]
) -> None:
    assert obstacles.stale(set_, pods) == names


@pytest.mark.parametrize(
    ("image", "copy"),
    [
        ("ghcr.io/fuseml/functions:0.1.0", "m.example.com:5000/x/fuseml/functions:0.1.0"),
        ("docker.io/library/postgres:17.6", "m.example.com:5000/x/library/postgres:17.6"),
        ("postgres:17.6", "m.example.com:5000/x/library/postgres:17.6"),
        ("alpine/git:2.49.1", "m.example.com:5000/x/alpine/git:2.49.1"),
        ("docker.io/alpine", "m.example.com:5000/x/library/alpine"),
        ("localhost:5000/a@sha256:0f", "m.example.com:5000/x/a@sha256:0f"),
        ("m.example.com:5000/x/fuseml/functions:0.1.0", "m.example.com:5000/x/fuseml/functions:0.1.0"),
    ],
)
def test_an_image_in_a_mirror_keeps_its_repository_and_tag(image: str, copy: str) -> None:
    assert mirrored(image, "m.example.com:5000/x") == mirrored(image, "m.example.com:5000/x/") == copy
    assert mirrored(image, "") == image


@given(st.sampled_from(sorted(command.all_images())), st.from_regex(r"[a-z]{1,9}\.example(:[0-9]{2,4})?(/[a-z]{1,9}){0,2}", fullmatch=True))
def test_every_image_of_an_installation_comes_from_the_mirror(image: str, mirror: str) -> None:
    moved = images.Images(mirror=mirror).of(image)
    assert moved.startswith(f"{mirror}/")
    assert images.Images(mirror=mirror).of(moved) == moved
    assert images.Images({image: "mine:1"}, mirror).of(image) == "mine:1"


def test_images_that_users_name_stay_as_they_are() -> None:
    assert installed("ghcr.io/fuseml/kserve-predictor:v0.1", "m.example.com") == "m.example.com/fuseml/kserve-predictor:v0.1"
    assert installed("docker.io/library/python:3.12", "m.example.com") == "docker.io/library/python:3.12"


def test_the_list_of_images_names_each_with_its_copy(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["deploy", "--list-images", "--registry", "m.example.com"], {}) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {name for name, _ in lines} == command.all_images()
    assert {
        f"ghcr.io/fuseml/{step}:v1" for step in ("mlflow-builder", "predictor", "scorer", "evaluator", "ranker", "workload", "trainer")
    } <= {name for name, _ in lines}
    assert all(copy == mirrored(name, "m.example.com") for name, copy in lines)


def test_settings_with_initial_images_move_to_a_mirror_and_others_stay() -> None:
    initial = command.OPTIONS["FUSEML_GIT_IMAGE"][1]
    assert command.moved("FUSEML_GIT_IMAGE", initial, "m.example.com") == "m.example.com/alpine/git:2.49.1"
    assert command.moved("FUSEML_GIT_IMAGE", "mine/git:1", "m.example.com") == "mine/git:1"
    assert command.moved("FUSEML_ZONE", "here", "m.example.com") == "here"


def test_an_interruption_is_one_line_and_exit_code_130(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexec sleep 60\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-m", "fuseml.deployment", "deploy"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        waiting.wait_until((tmp_path / "called").exists, "the first call of kubectl")
        # As a terminal does: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=waiting.PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "interrupted; run the same command again to continue"


def test_the_keys_of_events_follow_from_the_secret_keys() -> None:
    keys = [secrets.new_key() for _ in range(3)]
    text = functions.event_keys(f"{keys[0]}, {keys[1]},{keys[2]}")
    assert text.split(",") == list(secrets.Keyring(keys).event_keys())
    signing.Signer(lambda: text.split(","))
    for wrong in ("", "nonsense"):
        with pytest.raises(cluster.DeployError, match="FUSEML_SECRET_KEYS"):
            functions.event_keys(wrong)


NOON = "2026-11-21T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("deployed", "until"),
    [
        (None, ""),
        ([{"name": "FUSEML_EVENT_KEYS", "valueFrom": {}}], ""),
        ([{"name": "FUSEML_DATABASE_URL", "valueFrom": {}}], "2026-11-21T12:20:00.000000Z"),
        ([], "2026-11-21T12:20:00.000000Z"),
    ],
)
def test_unsigned_events_are_accepted_only_after_a_version_that_did_not_sign(deployed: list[dict[str, Any]] | None, until: str) -> None:
    service = None if deployed is None else {"spec": {"template": {"spec": {"containers": [{"env": deployed}]}}}}
    assert functions.unsigned_until(service, NOON) == until
    assert functions.GRACE_SECONDS < signing.LONGEST_GRACE


def egress() -> dict[str, Any]:
    return next(document for document in documents(ROOT / "infra/kubernetes/network.yaml") if document["metadata"]["name"] == "no-brokers")


def test_steps_may_call_everything_but_the_namespace_of_the_brokers() -> None:
    policy = egress()
    assert (policy["metadata"]["namespace"], policy["spec"]["podSelector"], policy["spec"]["policyTypes"]) == (
        cluster.WORKLOADS,
        {},
        ["Egress"],
    )
    [rule] = policy["spec"]["egress"]
    [selector] = [peer["namespaceSelector"] for peer in rule["to"] if "namespaceSelector" in peer]
    assert selector["matchExpressions"] == [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["knative-eventing"]}]
    assert [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer] == [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]
    assert "ports" not in rule


def test_the_addresses_of_pods_are_no_addresses_outside_the_cluster() -> None:
    policy = egress()
    functions.except_pods(policy, ["10.244.1.0/24", "10.244.0.0/24", "fd00:1::/64", "10.244.0.0/24"])
    blocks = [peer["ipBlock"] for peer in policy["spec"]["egress"][0]["to"] if "ipBlock" in peer]
    assert blocks == [
        {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/24", "10.244.1.0/24"]},
        {"cidr": "::/0", "except": ["fd00:1::/64"]},
    ]
    untouched = egress()
    functions.except_pods(untouched, [])
    assert untouched == egress()


@pytest.mark.parametrize(
    ("nodes", "networks"),
    [
        ('[{"spec": {"podCIDRs": ["10.244.1.0/24"]}}, {"spec": {}}]', ["10.244.1.0/24"]),
        ('[{"spec": {}}]', []),
        ("[]", []),
        (None, []),
    ],
    ids=["assigned", "by the plugin", "no nodes", "not allowed"],
)
def test_unknown_networks_of_pods_are_reported(
    nodes: str | None, networks: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\necho '{{\"items\": {nodes}}}'\n" if nodes else "#!/bin/sh\necho nodes is forbidden >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert functions.pod_networks() == networks
    output = capsys.readouterr().out
    assert ("steps may reach the brokers" in output) is (not networks)
    assert ("nodes is forbidden" in output) is (nodes is None)
