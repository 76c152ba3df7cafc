"""`task deploy` on a real cluster: objects, permissions, scaling to zero and from zero."""

from __future__ import annotations

import json
import time

import pytest

from fuseml.runtime import catalog
from tests import commands

from .deployment import Deployment, deploy, kubectl, redeploy, resources, wait_until

NAMES = sorted(function.service for function in (*catalog.FUNCTIONS, catalog.GATEWAY))
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_every_function_is_a_ready_service(deployment: Deployment) -> None:
    process = commands.run(["kn", "service", "list", "--namespace=fuseml", "--output=json"])
    services = json.loads(process.stdout)["items"]
    assert sorted(service["metadata"]["name"] for service in services) == NAMES
    assert {service["metadata"]["labels"]["app.kubernetes.io/part-of"] for service in services} == {"fuseml"}
    # A loaded cluster reports readiness late after a change of a revision.
    kubectl("wait", "ksvc", "--all", "--for=condition=Ready", "--namespace=fuseml", "--timeout=240s")


def test_triggers_broker_and_source_are_ready(deployment: Deployment) -> None:
    for kind in ("broker", "trigger", "pingsource"):
        items = resources(kind)
        assert items
        for item in items:
            ready = {condition["type"]: condition["status"] for condition in item["status"]["conditions"]}["Ready"]
            assert ready == "True", f"{kind} {item['metadata']['name']}"


def test_the_gateway_serves_the_api(deployment: Deployment) -> None:
    assert deployment.get("/healthz").status == 200
    assert deployment.get("/version").json()["version"]
    assert deployment.get("/extensions").status == 401
    assert deployment.get("/metrics").status == 404
    if not deployment.token:
        pytest.skip("the rest needs FUSEML_TOKEN")
    for path in ("/extensions", "/workflows", "/runs", "/codesets", "/applications", "/artifacts", "/runnables"):
        assert deployment.get(path, token=deployment.token).status == 200, path


def test_only_the_gateway_has_an_external_address(deployment: Deployment) -> None:
    inside = [service["metadata"]["name"] for service in resources("ksvc") if service["status"]["url"].endswith(".svc.cluster.local")]
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
def test_a_service_account_has_the_permissions_of_its_function(
    deployment: Deployment, account: str, verb: str, resource: str, namespace: str, *, allowed: bool
) -> None:
    resource, _, subresource = resource.partition("/")
    command = ["auth", "can-i", verb, resource, f"--as=system:serviceaccount:fuseml:{account}", f"--namespace={namespace}"]
    process = commands.run(["kubectl", *command, *([f"--subresource={subresource}"] if subresource else [])], code=None)
    assert process.stdout.strip() == ("yes" if allowed else "no")


def test_a_function_scales_to_zero_and_starts_with_a_request(deployment: Deployment) -> None:
    wait_until(lambda: not resources("pods", "--selector=serving.knative.dev/service=resolver"), "the resolver scales to zero")
    start = time.monotonic()
    response = deployment.get("/resolve")
    print(f"started in {time.monotonic() - start:.2f} s")
    # The response comes from the function: it accepts POST only.
    assert (response.status, response.json()["name"]) == (405, "method_not_allowed")
    assert resources("pods", "--selector=serving.knative.dev/service=resolver")


def test_fuseml_s_own_record_exists_when_the_deployment_is_ready(deployment: Deployment) -> None:
    services = deployment.read("/extensions/fuseml")["services"]
    assert "prediction-serving" in {service["category"] for service in services}


def test_a_wrong_image_ends_the_deployment_with_the_way_out_and_the_right_one_heals_it(deployment: Deployment) -> None:
    if not resources("statefulsets", "--selector=app.kubernetes.io/name=s3"):
        pytest.skip("needs the S3 server for trying out")
    process = redeploy("--s3-image=registry.local:5000/none:1", code=1)
    assert "ImagePull" in process.stdout + process.stderr
    assert "--s3-image" in process.stderr
    output = deploy()
    assert "never became ready and is replaced" in output
    (pod,) = resources("pods", "--selector=app.kubernetes.io/name=s3")
    assert all(status["ready"] for status in pod["status"]["containerStatuses"])


def test_deploying_again_changes_nothing(deployment: Deployment) -> None:
    before = {service["metadata"]["name"]: service["metadata"]["generation"] for service in resources("ksvc")}
    output = deploy()
    assert {service["metadata"]["name"]: service["metadata"]["generation"] for service in resources("ksvc")} == before
    assert "FUSEML_TOKEN" not in output, "the token is created only once"
