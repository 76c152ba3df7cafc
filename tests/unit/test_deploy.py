"""The decisions of `task deploy`: failures of pods, keys of events, the time for an upgrade, addresses that steps may not call."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml.runtime import secrets, signing
from infra.deploy import cluster, functions
from tests.contract.manifests import ROOT, documents


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
