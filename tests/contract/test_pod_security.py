"""Every pod that FuseML makes meets the Pod Security Standard `restricted`; only the container that builds images does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.engines.tekton import Settings, admission, render
from fuseml.servings.knative import render as applications
from tests.contract import pod_security
from tests.contract.manifests import MANIFESTS
from tests.contract.test_serving_manifests import SETTINGS, SPECS
from tests.unit import tekton_plans

Object = dict[str, Any]


def pods_of_run(plan: str) -> Iterator[tuple[str, Object]]:
    """The pods of a plan as Tekton makes them: one for each task, with the steps as containers, without Tekton's own."""
    made = tekton_plans.PLANS[plan]()
    spec = render.render(made, tekton_plans.secrets_of(made), Settings()).pipeline_run["spec"]
    template = spec["taskRunTemplate"]["podTemplate"]
    for task in spec["pipelineSpec"]["tasks"]:
        containers = [{**step, "resources": step.get("computeResources", {})} for step in task["taskSpec"]["steps"]]
        yield f"{plan}: {task['name']}", {**template, "containers": containers, "volumes": task["taskSpec"].get("volumes", [])}


def pods_of_manifests() -> Iterator[tuple[str, Object]]:
    for path, document in MANIFESTS:
        if document["kind"] in ("Service", "StatefulSet", "Deployment", "Job") and "template" in document["spec"]:
            yield f"{path}: {document['metadata']['name']}", document["spec"]["template"]["spec"]


def pods_of_applications() -> Iterator[tuple[str, Object]]:
    for name, spec in SPECS.items():
        body = applications.service(spec, SETTINGS, {1: "demo-wine-00001-00000000"})
        yield f"application {name}", body["spec"]["template"]["spec"]


RUNS = dict(pod for plan in tekton_plans.PLANS for pod in pods_of_run(plan))
BUILDING = {name: pod for name, pod in RUNS.items() if any(item["name"] == "build" for item in pod["containers"])}
PODS = RUNS | dict(pods_of_manifests()) | dict(pods_of_applications())


@pytest.mark.parametrize("name", sorted(PODS.keys() - BUILDING.keys()))
def test_a_pod_meets_the_standard_restricted(name: str) -> None:
    assert pod_security.violations(PODS[name]) == []


@pytest.mark.parametrize("name", sorted(BUILDING))
def test_only_the_container_that_builds_an_image_is_privileged(name: str) -> None:
    pod = copy.deepcopy(BUILDING[name])
    assert "privileged" in pod_security.violations(pod)
    pod["containers"] = [container for container in pod["containers"] if container["name"] != "build"]
    assert pod_security.violations(pod) == []


@pytest.mark.parametrize("name", sorted(PODS))
def test_every_container_has_requests_and_a_memory_limit(name: str) -> None:
    for container in pod_security.containers(PODS[name]):
        resources = container.get("resources") or {}
        assert resources.get("requests"), container["name"]
        assert resources.get("limits", {}).get("memory") or "memory" in resources["requests"], container["name"]


@pytest.mark.parametrize("plan", tekton_plans.PLANS)
def test_an_installation_without_image_builds_refuses_exactly_the_plans_with_one(plan: str) -> None:
    made = tekton_plans.PLANS[plan]()
    if any(output.image for step in made.steps for output in step.outputs):
        with pytest.raises(errors.PermanentError, match="builds an image in a privileged container"):
            admission.admit(made, tekton_plans.secrets_of(made), image_builds=False)
    else:
        admission.admit(made, tekton_plans.secrets_of(made), image_builds=False)


def test_the_image_of_a_runnable_has_no_privileged_container_where_no_step_may_build_one() -> None:
    made = tekton_plans.PLANS["image-of-runnable"]()
    rendered = render.render(made, tekton_plans.secrets_of(made), Settings(image_builds=False)).pipeline_run
    [build] = [task for task in rendered["spec"]["pipelineSpec"]["tasks"] if task["name"] == "build-halve"]
    assert [container["name"] for container in build["taskSpec"]["steps"]] == ["run", "fuseml-outputs"]
    assert "FUSEML_BUILD_FOLDER" not in str(build)


GOOD: Object = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


def with_container(**context: object) -> Object:
    pod = copy.deepcopy(GOOD)
    pod["containers"][0]["securityContext"] |= context
    return pod


def with_pod(**context: object) -> Object:
    return {**GOOD, "securityContext": {**GOOD["securityContext"], **context}}


BAD: list[tuple[str, Object]] = [
    ("host process", with_container(windowsOptions={"hostProcess": True})),
    ("host namespaces", {**GOOD, "hostNetwork": True}),
    ("host namespaces", {**GOOD, "hostPID": True}),
    ("privileged", with_container(privileged=True)),
    ("volume types", {**GOOD, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
    ("host ports", {**GOOD, "containers": [{**GOOD["containers"][0], "ports": [{"containerPort": 1, "hostPort": 1}]}]}),
    ("host of probes", {**GOOD, "containers": [{**GOOD["containers"][0], "livenessProbe": {"httpGet": {"host": "a", "port": 1}}}]}),
    ("AppArmor", with_pod(appArmorProfile={"type": "Unconfined"})),
    ("SELinux", with_pod(seLinuxOptions={"type": "spc_t"})),
    ("SELinux", with_container(seLinuxOptions={"user": "root"})),
    ("proc mount", with_container(procMount="Unmasked")),
    ("sysctls", with_pod(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
    ("privilege escalation", with_container(allowPrivilegeEscalation=None)),
    ("running as non-root", with_pod(runAsNonRoot=None)),
    ("running as non-root", with_container(runAsNonRoot=False)),
    ("running as non-root user", with_pod(runAsUser=0)),
    ("running as non-root user", with_container(runAsUser=0)),
    ("seccomp", with_pod(seccompProfile=None)),
    ("seccomp", with_container(seccompProfile={"type": "Unconfined"})),
    ("capabilities", with_container(capabilities={"drop": ["NET_RAW"]})),
    ("capabilities", with_container(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
    ("privilege escalation", {**GOOD, "initContainers": [{"name": "i", "securityContext": {"capabilities": {"drop": ["ALL"]}}}]}),
]


@pytest.mark.parametrize(("control", "pod"), BAD)
def test_the_check_finds_each_violation(control: str, pod: Object) -> None:
    assert pod_security.violations(GOOD) == []
    assert pod_security.violations(pod) == [control]


def test_every_control_has_a_violation_in_the_table() -> None:
    assert {control for control, _ in BAD} == pod_security.CONTROLS.keys()
