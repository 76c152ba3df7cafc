"""`task deploy` on a real cluster, seen from outside: what is there, what may be done, what sleeps and wakes."""

from __future__ import annotations

import json
import time

import pytest

from fuseml.runtime import catalog
from tests import commands

from .deployment import Deployment, deploy, found, kubectl, wait_until

NAMES = sorted(function.service for function in (*catalog.FUNCTIONS, catalog.GATEWAY))
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_every_function_is_a_ready_service(deployment: Deployment) -> None:
    listed = commands.run(["kn", "service", "list", "--namespace=fuseml", "--output=json"])
    services = json.loads(listed.stdout)["items"]
    assert sorted(service["metadata"]["name"] for service in services) == NAMES
    assert {service["metadata"]["labels"]["app.kubernetes.io/part-of"] for service in services} == {"fuseml"}
    # A busy cluster takes its time to say so again after a revision has changed.
    kubectl("wait", "ksvc", "--all", "--for=condition=Ready", "--namespace=fuseml", "--timeout=240s")


def test_triggers_broker_and_source_are_ready(deployment: Deployment) -> None:
    for kind in ("broker", "trigger", "pingsource"):
        items = found(kind)
        assert items
        for item in items:
            ready = {condition["type"]: condition["status"] for condition in item["status"]["conditions"]}["Ready"]
            assert ready == "True", f"{kind} {item['metadata']['name']}"


def test_one_address_serves_the_api(deployment: Deployment) -> None:
    assert deployment.get("/healthz").status == 200
    assert deployment.get("/version").json()["version"]
    assert deployment.get("/extensions").status == 401
    assert deployment.get("/metrics").status == 404
    if not deployment.token:
        pytest.skip("the rest needs FUSEML_TOKEN")
    for path in ("/extensions", "/workflows", "/runs", "/codesets", "/applications", "/artifacts"):
        assert deployment.get(path, token=deployment.token).status == 200, path


def test_nothing_but_the_gateway_has_an_address_outside(deployment: Deployment) -> None:
    inside = [service["metadata"]["name"] for service in found("ksvc") if service["status"]["url"].endswith(".svc.cluster.local")]
    assert sorted([*inside, "gateway"]) == NAMES


@pytest.mark.parametrize(
    ("account", "verb", "resource", "namespace", "allowed"),
    [
        ("dispatcher", "create", "pipelineruns.tekton.dev", "fuseml-workloads", True),
        ("dispatcher", "create", "secrets", "fuseml-workloads", True),
        ("dispatcher", "delete", "secrets", "fuseml-workloads", False),
        ("dispatcher", "get", "secrets", "fuseml", False),
        ("housekeeper", "list", "pipelineruns.tekton.dev", "fuseml-workloads", True),
        ("housekeeper", "create", "pipelineruns.tekton.dev", "fuseml-workloads", False),
        ("housekeeper", "get", "secrets", "fuseml", False),
        ("runs", "get", "pods/log", "fuseml-workloads", True),
        ("runs", "create", "pipelineruns.tekton.dev", "fuseml-workloads", False),
        ("functions", "get", "secrets", "fuseml", False),
        ("functions", "list", "pipelineruns.tekton.dev", "fuseml-workloads", False),
    ],
)
def test_an_account_may_do_what_its_function_does(
    deployment: Deployment, account: str, verb: str, resource: str, namespace: str, *, allowed: bool
) -> None:
    resource, _, subresource = resource.partition("/")
    asked = ["auth", "can-i", verb, resource, f"--as=system:serviceaccount:fuseml:{account}", f"--namespace={namespace}"]
    done = commands.run(["kubectl", *asked, *([f"--subresource={subresource}"] if subresource else [])], code=None)
    assert done.stdout.strip() == ("yes" if allowed else "no")


def test_a_function_goes_to_sleep_and_wakes_with_a_call(deployment: Deployment) -> None:
    wait_until(lambda: not found("pods", "--selector=serving.knative.dev/service=resolver"), "the resolver to scale to zero")
    begun = time.monotonic()
    answer = deployment.get("/resolve")
    print(f"woken in {time.monotonic() - begun:.2f} s")
    # The function itself says so: it takes POST only.
    assert (answer.status, answer.json()["name"]) == (405, "method_not_allowed")
    assert found("pods", "--selector=serving.knative.dev/service=resolver")


def test_deploying_again_changes_nothing(deployment: Deployment) -> None:
    before = {service["metadata"]["name"]: service["metadata"]["generation"] for service in found("ksvc")}
    told = deploy()
    assert {service["metadata"]["name"]: service["metadata"]["generation"] for service in found("ksvc")} == before
    assert "FUSEML_TOKEN" not in told, "the token is made once"
