"""Conversion of Tekton's events, which both engines emit, to observations of runs.

Events arrive at least once and in any order (infra/platform-facts.md 2.4); each event contains the whole object at that time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fuseml.domain import errors, events, labels, times
from fuseml.domain.labels import AUXILIARY_PREFIX, RUN_LABEL
from fuseml.domain.plans import identity
from fuseml.domain.runs import Observation, State

STEP_LABEL = "tekton.dev/pipelineTask"
# Annotations of the engine on a PipelineRun: names of tasks that differ from their steps, constant outputs, the reason of a cancel.
STEPS_ANNOTATION = "fuseml.io/steps"
OUTPUTS_ANNOTATION = "fuseml.io/outputs"
CANCEL_ANNOTATION = "fuseml.io/cancel-reason"
# The container that checks the outputs after a step's own containers, and its result with the reason of a refusal.
CHECK_CONTAINER = f"{AUXILIARY_PREFIX}outputs"
PROBLEM = "problem"
CANCEL_REASONS = frozenset({"Cancelled", "TaskRunCancelled", "PipelineRunCancelled", "CancelledRunFinally", "StoppedRunFinally"})
NO_RESOURCES = "ExceededNodeResources"
"""Tekton's reason for a step that waits until a node has the resources that it asks for."""
_TIMEOUT = re.compile(r'failed to finish within "((?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|h|m|s))+)"')
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def observe(event: events.Event) -> Observation | None:
    """The observation of a Tekton event. Its data has the v1beta1 shape, whatever the object's version (infra/platform-facts.md 2.3).

    A failed auxiliary task (a clone) yields the failure of its run, with its cause: Tekton's event of the run only counts failed tasks.
    Returns None for events without an observation: PipelineRuns of other applications, other events of auxiliary tasks, other kinds.
    Raises InvalidError for data without Tekton's shape.
    """
    kind = next((kind for kind in ("pipelineRun", "taskRun") if kind in event.data), None)
    if not event.type.startswith(events.TEKTON_PREFIX) or kind is None:
        return None
    try:
        return _read(event, event.data[kind], is_step=kind == "taskRun")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise errors.InvalidError(f"the data of {event.type} does not have Tekton's shape: {error}") from error


def _read(event: events.Event, body: Mapping[str, Any], *, is_step: bool) -> Observation | None:
    labels, annotations = (body["metadata"].get(key) or {} for key in ("labels", "annotations"))
    execution, task = labels.get(RUN_LABEL), labels.get(STEP_LABEL) if is_step else None
    if not execution or (is_step and not task) or "\0" in execution:
        return None
    auxiliary = bool(task and task.startswith(AUXILIARY_PREFIX))
    steps: Mapping[str, str] = json.loads(annotations.get(STEPS_ANNOTATION, "{}"))
    status = body.get("status") or {}
    condition: Mapping[str, str] = next((c for c in status.get("conditions") or [] if c.get("type") == "Succeeded"), {})
    results = _results(status, is_step=is_step)
    state = _state(condition)
    if auxiliary and state != "failed":
        return None
    constants: dict[str, str] = {}
    if state == "succeeded" and not is_step:
        constants = json.loads(annotations.get(OUTPUTS_ANNOTATION, "{}"))
    skipped = [task["name"] for task in status.get("skippedTasks") or []]
    renamed = {*steps, *steps.values()}
    run_id, number = identity.execution_of(execution)
    cause = _cause(condition, status, annotations.get(CANCEL_ANNOTATION, "")) if state in ("failed", "cancelled") else _wait(condition)
    return Observation(
        run_id=run_id,
        step=steps.get(task, task) if task and not auxiliary else None,
        state=state,
        time=times.normalize(event.time),
        started=times.normalize(status["startTime"]) if status.get("startTime") else None,
        finished=times.normalize(status["completionTime"]) if status.get("completionTime") else None,
        cause=f"{task} failed: {cause}" if auxiliary else cause,
        attempts=1 + len(status.get("retriesStatus") or []),
        # Tekton reports the results of failed tasks, too.
        outputs=results | constants if state == "succeeded" else {},
        skipped=tuple(steps.get(name, name) for name in skipped if not name.startswith(AUXILIARY_PREFIX) or name in renamed),
        execution=number,
    )


def _state(condition: Mapping[str, str]) -> State:
    status, reason = condition.get("status"), condition.get("reason", "")
    if status == "True":
        return "succeeded"
    if status == "False":
        return "cancelled" if reason in CANCEL_REASONS else "failed"
    return "queued" if not condition or reason in ("Pending", "PipelineRunPending", "TaskRunPending", NO_RESOURCES) else "running"


def _wait(condition: Mapping[str, str]) -> str | None:
    """The resources that a queued step waits for; None if it waits for none."""
    return condition.get("message") or None if condition.get("reason") == NO_RESOURCES else None


def _results(status: Mapping[str, Any], *, is_step: bool) -> dict[str, str]:
    results = status.get("taskResults" if is_step else "pipelineResults") or status.get("results") or []
    # Those with the prefix repeat outputs for Tekton Chains.
    return {
        result["name"]: _result_text(result.get("value")) for result in results if not result["name"].startswith(labels.AUXILIARY_PREFIX)
    }


def _cause(condition: Mapping[str, str], status: Mapping[str, Any], cancel_reason: str) -> str:
    reason, message = condition.get("reason", ""), cancel_reason or condition.get("message", "")
    if (timeout := _TIMEOUT.search(message)) and reason.endswith("Timeout"):
        message = f"timed out after {_seconds(timeout[1])} s"
    elif problem := _output_problem(status):
        return problem
    return message if reason in ("", "Failed", "StepFailed") and message else f"{reason}: {message}".strip(": ")


def _output_problem(status: Mapping[str, Any]) -> str:
    """The reason for which the outputs were refused; empty if another container failed: those after it are skipped, with an exit code, too."""
    containers = {str(item.get("name")): item for item in status.get("steps") or []}
    codes = {name: (item.get("terminated") or {}).get("exitCode", 0) for name, item in containers.items()}
    code = codes.pop(CHECK_CONTAINER, 0)
    if not code or any(codes.values()):
        return ""
    reported = {result["name"]: result.get("value") for result in containers[CHECK_CONTAINER].get("results") or []}
    # Without a reason the program itself has failed.
    return _result_text(
        reported.get(PROBLEM) or f"its outputs could not be checked: {CHECK_CONTAINER} exited with code {code}; see its log"
    )


def _seconds(duration: str) -> float:
    """Seconds of a duration in Go's format: 1h0m30s, 1.5s."""
    total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(?<![0-9.])([0-9.]++)(ms|h|m|s)", duration))
    return int(total) if total == int(total) else total


def _result_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
