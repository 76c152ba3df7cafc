"""What the cluster knows of a run, told as the events that Tekton itself sends (recorded ones are in tests/events).

Tekton's events may be lost for ever (infra/platform-facts.md 2.4); these are the same facts, read from the objects. They have the shape
that Tekton gives to the data of its events (infra/platform-facts.md 2.3), but no `spec`: that holds the environment of the steps. Ids
follow from what is told, so that telling it again is a duplicate.
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


def condition_of(found: Mapping[str, Any]) -> Mapping[str, str]:
    """The condition `Succeeded` of a PipelineRun or TaskRun; empty before Tekton has seen it."""
    conditions: list[dict[str, str]] = found.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Succeeded"), {})


def is_finished(found: Mapping[str, Any]) -> bool:
    """Whether a PipelineRun or TaskRun has come to its end."""
    return condition_of(found).get("status") in _WORDS


def tasks_of(pipeline_run: Mapping[str, Any]) -> dict[str, Object]:
    """The steps of a run, by their own names, as the tasks of its pipeline. Tasks that the engine added are left out."""
    called = names.steps(pipeline_run["metadata"].get("annotations", {}))
    listed: list[Object] = pipeline_run["spec"]["pipelineSpec"]["tasks"]
    return {called.get(task["name"], task["name"]): task for task in listed if not task["name"].startswith(labels.AUXILIARY_PREFIX)}


def _has_failed(auxiliary: Mapping[str, Any]) -> bool:
    condition = condition_of(auxiliary)
    return condition.get("status") == "False" and condition.get("reason") not in CANCEL_REASONS


def all_events(pipeline_run: Mapping[str, Any], task_runs: Sequence[Mapping[str, Any]]) -> list[events.Event]:
    """Everything there is to tell about a run, in the order in which it happened."""
    steps = {task["name"]: step for step, task in tasks_of(pipeline_run).items()}
    ours = {step: found for found in task_runs if (step := steps.get(found["metadata"]["labels"].get(STEP_LABEL, ""))) is not None}
    called = [(found, str(found["metadata"]["labels"].get(STEP_LABEL, ""))) for found in task_runs]
    broken = [(found, task) for found, task in called if task.startswith(labels.AUXILIARY_PREFIX) and _has_failed(found)]
    # First, and sorting keeps it so: a clone that failed is why the run did.
    told = [_step_events(found, task)[-1] for found, task in broken]
    told += _run_events(pipeline_run, steps, ours)
    for step, found in ours.items():
        told += _step_events(found, step)
    return sorted(told, key=lambda event: event.time)


def _run_events(found: Mapping[str, Any], steps: Mapping[str, str], started: Mapping[str, object]) -> list[events.Event]:
    status, condition = found.get("status", {}), condition_of(found)
    metadata = {key: found["metadata"][key] for key in _METADATA if key in found["metadata"]}
    skipped = [{**task, "name": steps[task["name"]]} for task in status.get("skippedTasks") or [] if task["name"] in steps]
    if is_finished(found):
        # Of a run that is cancelled, Tekton does not say what it skipped.
        settled = {task["name"] for task in skipped} | set(started)
        skipped += [{"name": step, "reason": _NEVER_RAN} for step in steps.values() if step not in settled]
    more: Object = {"skippedTasks": skipped} if skipped else {}
    told = []
    if status.get("startTime"):
        begun = {"conditions": [_unknown("Started", status["startTime"])], "startTime": status["startTime"]}
        told.append(_event("pipelineRun", metadata, "started", "", status["startTime"], begun))
    if is_finished(found):
        known = names.outputs(metadata.get("annotations", {})) if condition["status"] == "True" else {}
        results = [*(status.get("results") or []), *({"name": name, "value": text} for name, text in known.items())]
        if results:
            more["pipelineResults"] = results
        told.append(_present("pipelineRun", metadata, status, condition, "", more))
    elif condition and (skipped or condition.get("reason") != "Started"):
        told.append(_present("pipelineRun", metadata, status, condition, str(len(skipped)), more))
    return told


def _step_events(found: Mapping[str, Any], step: str) -> list[events.Event]:
    status, condition = found.get("status", {}), condition_of(found)
    metadata = {key: found["metadata"][key] for key in _METADATA if key in found["metadata"]}
    metadata["labels"] = {**metadata["labels"], STEP_LABEL: step}
    before = [_attempt(attempt) for attempt in status.get("retriesStatus") or []]
    told = []
    for number, attempt in enumerate([*before, status] if is_finished(found) else before):
        if attempt.get("startTime"):
            running: Object = {"conditions": [_unknown("Running", attempt["startTime"])], "startTime": attempt["startTime"]}
            if number:
                running["retriesStatus"] = before[:number]
            told.append(_event("taskRun", metadata, "running", str(number), attempt["startTime"], running))
    if condition:
        more: Object = {"retriesStatus": before} if before else {}
        if status.get("results"):
            more["taskResults"] = status["results"]
        if condition.get("status") == "False":
            more |= _failed(status)
        told.append(_present("taskRun", metadata, status, condition, str(len(before)), more))
    return told


def _present(
    kind: str, metadata: Object, status: Mapping[str, Any], condition: Mapping[str, str], number: str, more: Object
) -> events.Event:
    """How things stand now."""
    known = {key: status[key] for key in ("startTime", "completionTime", "podName") if status.get(key)}
    moment = status.get("completionTime") or condition.get("lastTransitionTime") or metadata["creationTimestamp"]
    reason = condition.get("reason", "")
    word = _WORDS.get(condition.get("status", "")) or (reason.lower() if reason in ("Started", "Running") else "unknown")
    return _event(kind, metadata, word, f"{reason}:{number}", moment, {"conditions": [dict(condition)], **known, **more})


def _failed(status: Mapping[str, Any]) -> Object:
    """What tells which container failed, and which output it may have missed."""
    ended = [
        {"name": item["name"], "terminated": {"exitCode": item.get("terminated", {}).get("exitCode", 0)}}
        for item in status.get("steps") or []
    ]
    declared = [{"name": item["name"]} for item in (status.get("taskSpec") or {}).get("results") or []]
    return {"steps": ended, "taskSpec": {"results": declared}}


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
