"""The pages of the tools that train: their records name implementations, their manifests are valid, the documented workflow is planned."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import jsonschema
import pytest
import yaml

from fuseml import workloads
from fuseml.domain import plans
from fuseml.domain.registry import extension
from fuseml.domain.workflows import loading
from tests import crds
from tests.contract import pod_security
from tests.contract.test_tekton_manifests import closed
from tests.unit import workflow_examples

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = ("ray", "kubeflow-trainer", "kubernetes-job", "determined")


def block(page: str, name: str) -> str:
    found: list[str] = re.findall(rf"```yaml\n# {re.escape(name)}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return found[0]


def services() -> dict[str, extension.Service]:
    """Resource -> service, of the records of the pages."""
    records = [extension.Extension.model_validate(yaml.safe_load(block(f"tools/{page}.md", f"{page}.yaml"))) for page in PAGES]
    return {service.resource: service for record in records for service in record.services}


def test_every_implementation_has_a_page_whose_record_names_it() -> None:
    assert services().keys() == workloads.TOOLS.keys()


@pytest.mark.parametrize("resource", workloads.TOOLS)
def test_a_record_has_what_the_tool_needs(resource: str) -> None:
    service = services()[resource]
    endpoint, credentials = service.endpoints[0], service.credentials[0]
    assert service.category == "training" and service.auth_required
    variables = {**endpoint.configuration, **{key: "x" for key in credentials.configuration if key != "KUBERNETES_CA"}}
    workload = workloads.connect(resource, endpoint.url, variables)
    workload.check(workloads.Job("a-1", "true", image="" if resource == "ray-jobs" else "trainer:1"))


@pytest.mark.parametrize("resource", workloads.TOOLS)
def test_the_documented_workflow_gets_the_tool_of_its_binding(resource: str) -> None:
    tool = workflow_examples.binding("training", service_category="training", service_resource=resource, url="https://tool.example.com")
    workflow = loading.load(block("steps.md", "training-elsewhere.yaml"))
    bindings = {"train": {"training": tool, "tracking": workflow_examples.binding("tracking")}}
    [step] = workflow_examples.plan_of(workflow, bindings=bindings).steps
    variables = workflow_examples.variables(step)
    assert variables["FUSEML_TRAINING"] == plans.text(resource)
    assert variables["FUSEML_TRAINING_URL"] == plans.text("https://tool.example.com")
    assert isinstance(variables["AWS_SECRET_ACCESS_KEY"][0], plans.SecretPart)


def test_other_bindings_name_no_tool() -> None:
    assert "FUSEML_TRAINING" not in workflow_examples.binding("store").environment()


def test_the_documented_runtime_is_valid_and_keeps_the_pods_of_failed_trainings() -> None:
    schema: dict[str, Any] = yaml.safe_load(crds.at("kubeflow-trainer/trainingruntimes.yaml").read_text())
    structure = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    structure["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    runtime = yaml.safe_load(block("tools/kubeflow-trainer.md", "runtime.yaml"))
    validator = jsonschema.Draft7Validator(closed(structure))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(runtime)] == []
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod_security.violations(pod) == []
