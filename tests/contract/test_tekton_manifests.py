"""The manifests of the Tekton engine equal tests/golden/tekton and are valid by Tekton's schemas and the rules of its webhook.

`UPDATE_GOLDEN=1` rewrites the files. The schemas are not part of the project; tests that need them are skipped without them.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fuseml.engines.tekton import Settings, render
from tests import crds, yaml_files
from tests.unit import tekton_model, tekton_plans

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/tekton"
NAMES = sorted(tekton_plans.PLANS)


class Readable(yaml.SafeDumper):
    """YAML with multi-line texts as blocks and without aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


Readable.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


@functools.cache
def render_plan(name: str) -> render.Manifests:
    plan = tekton_plans.PLANS[name]()
    return render.render(plan, tekton_plans.secrets_of(plan), Settings())


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_rendered_as_in_its_golden_file(name: str) -> None:
    documents = [document for document in (render_plan(name).pipeline_run, render_plan(name).secret) if document is not None]
    text = yaml.dump_all(documents, Dumper=Readable, sort_keys=False, width=140, allow_unicode=True)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_has_its_plan() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == NAMES


def crd(kind: str) -> dict[str, Any]:
    """The schema of version v1 of a kind."""
    path = crds.at(f"tekton-pipelines/300-{kind}.yaml")
    versions = yaml_files.document(path)["spec"]["versions"]
    schema: dict[str, Any] = next(version for version in versions if version["name"] == "v1")["schema"]["openAPIV3Schema"]
    return schema


@functools.cache
def pipeline_run_schema() -> dict[str, Any]:
    """The schema of a PipelineRun, with the schemas of pipelines and tasks in its open parts (infra/platform-facts.md 2.1)."""
    schema, pipeline, task = crd("pipelinerun"), crd("pipeline")["properties"]["spec"], crd("task")["properties"]["spec"]
    task["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    pipeline["properties"]["tasks"]["items"]["properties"]["taskSpec"] = task
    schema["properties"]["spec"]["properties"]["pipelineSpec"] = pipeline
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return closed(copy.deepcopy(schema))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema as JSON Schema that rejects unknown fields, as `kubectl apply --validate=strict` does."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {key: value for key, value in schema.items() if key in ("type", "required", "enum", "pattern", "minimum", "maximum")}
    if "items" in schema:
        result["items"] = closed(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        result["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = closed(schema["additionalProperties"])
    return result


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_run_is_valid_by_the_schema_of_tekton(name: str) -> None:
    validator = jsonschema.Draft7Validator(pipeline_run_schema())
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(render_plan(name).pipeline_run)] == []


def test_the_schema_rejects_unknown_fields() -> None:
    validator = jsonschema.Draft7Validator(pipeline_run_schema())
    broken = copy.deepcopy(render_plan("two-codesets").pipeline_run)
    task = broken["spec"]["pipelineSpec"]["tasks"][-1]
    task["taskSpec"]["steps"][0]["enviroment"] = []
    task["retrys"] = 1
    broken["spec"]["taskRunTemplate"]["serviceAccount"] = "x"
    assert len(list(validator.iter_errors(broken))) == 3


RESULT = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
PARAMETER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9.-]*")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_run_follows_the_rules_of_tektons_webhook(name: str) -> None:
    """Rules for names and references (pkg/apis/pipeline/v1/*_validation.go)."""
    document = render_plan(name).pipeline_run
    spec = document["spec"]["pipelineSpec"]
    tasks = {task["name"]: task for task in spec["tasks"]}
    assert len(tasks) == len(spec["tasks"])
    assert "finally" not in spec
    bound = {workspace["name"] for workspace in document["spec"].get("workspaces", [])}
    assert bound == {workspace["name"] for workspace in spec.get("workspaces", [])}
    for task in spec["tasks"]:
        check_task(task, bound)
        assert tekton_model.dependencies(task) <= set(tasks)
    declared = {(task["name"], result["name"]) for task in spec["tasks"] for result in task["taskSpec"].get("results", [])}
    assert tekton_model.references(document) <= declared
    for result in spec.get("results", []):
        assert RESULT.fullmatch(result["name"])
        # taskContainsResult: a reference without surrounding text.
        assert re.fullmatch(r"\$\(tasks\.[^.]+\.results\.[^.]+\)", result["value"])


def check_task(task: dict[str, Any], bound: set[str]) -> None:
    spec = task["taskSpec"]
    assert DNS_LABEL.fullmatch(task["name"])
    assert [param["name"] for param in task.get("params", [])] == [param["name"] for param in spec.get("params", [])]
    assert all(PARAMETER.fullmatch(param["name"]) for param in spec.get("params", []))
    assert all(RESULT.fullmatch(result["name"]) for result in spec.get("results", []))
    assert {workspace["workspace"] for workspace in task.get("workspaces", [])} <= bound
    assert [workspace["name"] for workspace in task.get("workspaces", [])] == [
        workspace["name"] for workspace in spec.get("workspaces", [])
    ]
    paths = [workspace.get("mountPath", f"/workspace/{workspace['name']}") for workspace in spec.get("workspaces", [])]
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["steps"]:
        assert DNS_LABEL.fullmatch(container["name"])
        assert ("script" in container) != ("command" in container)
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
        mounted = [mount["mountPath"] for mount in container.get("volumeMounts", [])] + paths
        assert len(set(mounted)) == len(mounted)
        assert not any(f"{path}/".startswith("/tekton/") for path in mounted)
        used = set(re.findall(r"\$\(params\.([^)]*)\)", str(container)))
        assert used <= {param["name"] for param in spec.get("params", [])}


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_valid_and_contains_every_referenced_key(name: str) -> None:
    document, secret = render_plan(name).pipeline_run, render_plan(name).secret
    keys = set(re.findall(r"'key': '([^']+)'", str(document["spec"]["pipelineSpec"])))
    contents = secret["stringData"] if secret is not None else {}
    assert keys == set(contents)
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) for key in contents)
    if secret is not None:
        assert set(secret) == {"apiVersion", "kind", "metadata", "type", "immutable", "stringData"}
        assert (secret["apiVersion"], secret["kind"], secret["type"]) == ("v1", "Secret", "Opaque")
        assert secret["metadata"]["name"] == document["metadata"]["name"]
        assert tekton_plans.CANARY not in str(document)
