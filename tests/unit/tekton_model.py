"""Model of how Tekton and the kubelet process a rendered PipelineRun, limited to the features that the engine uses.

Each part names the Go function that it follows (tektoncd/pipeline 1.15, kubernetes third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Results = Mapping[str, Mapping[str, str]]
"""Task -> result -> text."""

_RESULT_REFERENCE = re.compile(r"\$\(tasks\.([^.)]+)\.results\.([^.)]+)\)")


def apply_replacements(text: str, replacements: Mapping[str, str]) -> str:
    """substitution.ApplyReplacements: all at once, without further substitution in the inserted text."""
    variables = {f"$({name})": value for name, value in replacements.items()}
    if not variables:
        return text
    return re.sub("|".join(map(re.escape, variables)), lambda match: variables[match[0]], text)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """expansion.Expand: `$(NAME)`; `$$` becomes `$`, and an unknown name stays unchanged."""
    return re.sub(r"\$(\$|\(([^)]*)\))?", lambda match: _expanded(match, environment), text)


def _expanded(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match[1] == "$":
        return "$"
    return environment.get(match[2], match[0]) if match[2] is not None else match[0]


@dataclass
class ContainerView:
    """A container as its program sees it."""

    image: str
    environment: dict[str, str]
    arguments: list[str]
    script: str | None
    directory: str | None


def run_container(task: Mapping[str, Any], container: Mapping[str, Any], results: Results, secret: Mapping[str, str]) -> ContainerView:
    """The start of one container of a task."""
    result_values = {f"tasks.{task}.results.{name}": value for task, written in results.items() for name, value in written.items()}
    params = {param["name"]: apply_replacements(param["value"], result_values) for param in task.get("params", [])}
    declared = [param["name"] for param in task["taskSpec"].get("params", [])]
    assert sorted(params) == sorted(declared), "a parameter without a value, or a value without a parameter"
    applied = passes(task, container, params, result_values)

    def text(value: str) -> str:
        for replacements in applied:
            value = apply_replacements(value, replacements)
        return value

    environment: dict[str, str] = {}
    for variable in container.get("env", []):
        assert variable["name"] not in environment, f"{variable['name']} is set twice"
        if "valueFrom" in variable:
            environment[variable["name"]] = secret[variable["valueFrom"]["secretKeyRef"]["key"]]
        else:
            environment[variable["name"]] = expand(text(variable["value"]), environment)
    arguments = [expand(text(value), environment) for value in (*container.get("command", []), *container.get("args", []))]
    script = text(container["script"]) if "script" in container else None
    for mount in container.get("volumeMounts", []):
        volume = next(volume for volume in task["taskSpec"]["volumes"] if volume["name"] == mount["name"])
        if volume["name"] == "script":
            [item] = volume["secret"]["items"]
            assert arguments.pop(0) == f"{mount['mountPath']}/{item['path']}"
            script = secret[item["key"]]
    return ContainerView(text(container["image"]), environment, arguments, script, container.get("workingDir"))


def passes(
    task: Mapping[str, Any], container: Mapping[str, Any], params: Mapping[str, str], result_values: Mapping[str, str]
) -> list[dict[str, str]]:
    """The substitution passes over the texts of a container of an embedded task, in order."""
    spec = task["taskSpec"]
    patterns = ("params.%s", 'params["%s"]', "params['%s']", "inputs.params.%s")
    results = {f"results.{result['name']}.path": f"/tekton/results/{result['name']}" for result in spec.get("results", [])}
    workspaces: dict[str, str] = {}
    for workspace in spec.get("workspaces", []):
        name = workspace["name"]
        workspaces |= {
            f"workspaces.{name}.path": workspace.get("mountPath", f"/workspace/{name}"),
            f"workspaces.{name}.bound": "true",
            f"workspaces.{name}.claim": "pvc-1",
            f"workspaces.{name}.volume": "ws-1",
        }
    return [
        {
            "context.pipelineRun.name": "r",
            "context.pipelineRun.namespace": "n",
            "context.pipelineRun.uid": "u",
            "context.pipeline.name": "r",
        },
        {"workspaces.source.bound": "true"},
        dict(result_values),
        {pattern % name: value for name, value in params.items() for pattern in patterns},
        {"context.taskRun.name": "t", "context.task.name": "t", "context.taskRun.namespace": "n", "context.task.retry-count": "0"},
        results,
        {
            f"step.results.{result['name']}.path": f"/tekton/steps/step-{container['name']}/results/{result['name']}"
            for result in container.get("results", [])
        },
        {"step.artifacts.path": "/tekton/steps", "artifacts.path": "/tekton/artifacts"},
        {"steps.step-run.exitCode.path": "/tekton/steps/step-run/exitCode"},
        workspaces,
        {"credentials.path": "/tekton/creds"},
    ]


def references(document: object) -> set[tuple[str, str]]:
    """The references to results in a document: (task, result)."""
    return set(_RESULT_REFERENCE.findall(str(document)))


def dependencies(task: Mapping[str, Any]) -> set[str]:
    """The tasks that Tekton waits for before it evaluates this one (PipelineTask.Deps)."""
    return {*task.get("runAfter", []), *(name for name, _ in _references(task))}


@dataclass
class Outcome:
    """The end of a pipeline: the results of the tasks that ran, and the reasons of the skipped ones."""

    ran: dict[str, Mapping[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def run_pipeline(tasks: list[dict[str, Any]], results: Results) -> Outcome:
    """Run tasks that all succeed and write `results` (ResolvedPipelineTask.skip, runNextSchedulableTask)."""
    outcome = Outcome()
    pending = {task["name"]: task for task in tasks}
    while pending:
        name = next(name for name, task in pending.items() if not dependencies(task) & set(pending))
        task = pending.pop(name)
        reason = _skip(task, outcome)
        if reason:
            outcome.skipped[name] = reason
            continue
        missing = [task for task, _ in _references(task) if task not in outcome.ran]
        assert not missing, f"{name} fails: the results of {missing} are missing"
        outcome.ran[name] = results.get(name, {})
    return outcome


def _references(task: Mapping[str, Any]) -> set[tuple[str, str]]:
    return references([task.get("params", []), task.get("when", [])])


def _skip(task: Mapping[str, Any], outcome: Outcome) -> str:
    missing = sorted(name for name, _ in _references(task) if name not in outcome.ran)
    # ApplyTaskResults: either all references of the task are resolved, or none.
    result_values = (
        {} if missing else {f"tasks.{name}.results.{result}": value for name, ran in outcome.ran.items() for result, value in ran.items()}
    )
    for condition in task.get("when", []):
        text = apply_replacements(condition["input"], result_values)
        contained = text in [apply_replacements(value, result_values) for value in condition["values"]]
        if contained is not (condition["operator"] == "in"):
            return "when"
    if any(outcome.skipped.get(parent, "when") != "when" for parent in dependencies(task)):
        return "parent"
    if any(outcome.skipped.get(name) == "when" for name in missing):
        return "results"
    return ""
