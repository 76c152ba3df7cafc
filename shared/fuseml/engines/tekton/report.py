"""The state of a run on the cluster as the events that Tekton sends (tests/events has recorded ones).

Tekton may lose events (infra/platform-facts.md 2.4); these carry the same facts, read from the objects. Their data has the shape of
Tekton's events (infra/platform-facts.md 2.3) without `spec`, which contains the environment of the steps. Ids are derived from the facts,
so that a repeated event is a duplicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.domain import events, labels
from fuseml.engines.tekton import names
from fuseml.engines.tekton.events import CANCEL_REASONS, STEP_LABEL
from fuseml.engines.tekton.values import Object

_METADATA = ("name", "namespace", "uid", "creationTimestamp", "labels", "annotations")
_WORDS = {"True": "successful", "False": "failed"}
_NEVER_RAN = "PipelineRun was stopping"


def condition_of(resource: Mapping[str, Any]) -> Mapping[str, str]:
    """The condition `Succeeded` of a PipelineRun or TaskRun; empty before Tekton has processed it."""
    conditions: list[dict[str, str]] = resource.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Succeeded"), {})


def is_finished(resource: Mapping[str, Any]) -> bool:
    """Whether a PipelineRun or TaskRun has finished."""
    return condition_of(resource).get("status") in _WORDS


def tasks_of(pipeline_run: Mapping[str, Any]) -> dict[str, Object]:
    """Step -> task of the run's pipeline, without the auxiliary tasks of the engine."""
    steps = names.steps(pipeline_run["metadata"].get("annotations", {}))
    tasks: list[Object] = pipeline_run["spec"]["pipelineSpec"]["tasks"]
    return {steps.get(task["name"], task["name"]): task for task in tasks if not task["name"].startswith(labels.AUXILIARY_PREFIX)}


def _has_failed(auxiliary: Mapping[str, Any]) -> bool:
    condition = condition_of(auxiliary)
    return condition.get("status") == "False" and condition.get("reason") not in CANCEL_REASONS


def all_events(pipeline_run: Mapping[str, Any], task_runs: Sequence[Mapping[str, Any]]) -> list[events.Event]:
    """All events of a run in the order in which they happened, the end of the run last.

    Tekton's times are seconds, and it finishes a cancelled PipelineRun before its TaskRuns; the causes of a failed run are in its steps.
    """
    steps = {task["name"]: step for step, task in tasks_of(pipeline_run).items()}
    own = {step: task_run for task_run in task_runs if (step := steps.get(task_run["metadata"]["labels"].get(STEP_LABEL, ""))) is not None}
    by_task = [(task_run, str(task_run["metadata"]["labels"].get(STEP_LABEL, ""))) for task_run in task_runs]
    failed = [(task_run, task) for task_run, task in by_task if task.startswith(labels.AUXILIARY_PREFIX) and _has_failed(task_run)]
    # First, and sorting is stable: a failed clone is the cause of the run's failure.
    reported = [_step_events(task_run, task)[-1] for task_run, task in failed]
    reported += _run_events(pipeline_run, steps, own)
    end = [reported.pop()] if is_finished(pipeline_run) else []
    for step, task_run in own.items():
        reported += _step_events(task_run, step)
    return [*sorted(reported, key=lambda event: event.time), *end]


def _run_events(pipeline_run: Mapping[str, Any], steps: Mapping[str, str], started: Mapping[str, object]) -> list[events.Event]:
    status, condition = pipeline_run.get("status", {}), condition_of(pipeline_run)
    metadata = {key: pipeline_run["metadata"][key] for key in _METADATA if key in pipeline_run["metadata"]}
    skipped = [{**task, "name": steps[task["name"]]} for task in status.get("skippedTasks") or [] if task["name"] in steps]
    if is_finished(pipeline_run):
        # Tekton does not list the skipped tasks of a cancelled run.
        settled = {task["name"] for task in skipped} | set(started)
        skipped += [{"name": step, "reason": _NEVER_RAN} for step in steps.values() if step not in settled]
    more: Object = {"skippedTasks": skipped} if skipped else {}
    reported = []
    if status.get("startTime"):
        started_status = {"conditions": [_unknown("Started", status["startTime"])], "startTime": status["startTime"]}
        reported.append(_event("pipelineRun", metadata, "started", "", status["startTime"], started_status))
    if is_finished(pipeline_run):
        constants = names.outputs(metadata.get("annotations", {})) if condition["status"] == "True" else {}
        results = [*(status.get("results") or []), *({"name": name, "value": text} for name, text in constants.items())]
        if results:
            more["pipelineResults"] = results
        reported.append(_present("pipelineRun", metadata, status, condition, "", more))
    elif condition and (skipped or condition.get("reason") != "Started"):
        reported.append(_present("pipelineRun", metadata, status, condition, str(len(skipped)), more))
    return reported


def _step_events(task_run: Mapping[str, Any], step: str) -> list[events.Event]:
    status, condition = task_run.get("status", {}), condition_of(task_run)
    metadata = {key: task_run["metadata"][key] for key in _METADATA if key in task_run["metadata"]}
    metadata["labels"] = {**metadata["labels"], STEP_LABEL: step}
    before = [_attempt(attempt) for attempt in status.get("retriesStatus") or []]
    reported = []
    for number, attempt in enumerate([*before, status] if is_finished(task_run) else before):
        if attempt.get("startTime"):
            running: Object = {"conditions": [_unknown("Running", attempt["startTime"])], "startTime": attempt["startTime"]}
            if number:
                running["retriesStatus"] = before[:number]
            reported.append(_event("taskRun", metadata, "running", str(number), attempt["startTime"], running))
    if condition:
        more: Object = {"retriesStatus": before} if before else {}
        if status.get("results"):
            more["taskResults"] = status["results"]
        if condition.get("status") == "False":
            more |= _failed(status)
        reported.append(_present("taskRun", metadata, status, condition, str(len(before)), more))
    return reported


def _present(
    kind: str, metadata: Object, status: Mapping[str, Any], condition: Mapping[str, str], number: str, more: Object
) -> events.Event:
    """The event of the present state."""
    present = {key: status[key] for key in ("startTime", "completionTime", "podName") if status.get(key)}
    moment = status.get("completionTime") or condition.get("lastTransitionTime") or metadata["creationTimestamp"]
    reason = condition.get("reason", "")
    word = _WORDS.get(condition.get("status", "")) or (reason.lower() if reason in ("Started", "Running") else "unknown")
    return _event(kind, metadata, word, f"{reason}:{number}", moment, {"conditions": [dict(condition)], **present, **more})


def _failed(status: Mapping[str, Any]) -> Object:
    """The exit codes and results of the containers: they identify the failed container and the problem with the outputs."""
    ended = [
        {
            "name": item["name"],
            "terminated": {"exitCode": item.get("terminated", {}).get("exitCode", 0)},
            **({"results": item["results"]} if item.get("results") else {}),
        }
        for item in status.get("steps") or []
    ]
    return {"steps": ended}


def _event(kind: str, metadata: Object, word: str, number: str, moment: str, status: Object) -> events.Event:
    # Tekton's own source, with its empty group, version and kind.
    source = f"/apis///namespaces/{metadata.get('namespace', '')}//{metadata['name']}"
    type_ = f"{events.TEKTON_PREFIX}{kind.lower()}.{word}.v1"
    identity = f"{metadata['uid']}:{word}:{number}"
    return events.Event(type_, source, identity, metadata["name"], moment, {kind: {"metadata": metadata, "status": status}})


def _unknown(reason: str, moment: str) -> dict[str, str]:
    return {"type": "Succeeded", "status": "Unknown", "reason": reason, "lastTransitionTime": moment}


def _attempt(status: Mapping[str, Any]) -> Object:
    return {key: status[key] for key in ("conditions", "startTime", "completionTime", "podName") if status.get(key)}
