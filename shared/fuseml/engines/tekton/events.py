"""Tekton's events, as observations of runs. The local engine emits the same ones.

Engines report at least once and in any order (infra/platform-facts.md 2.4); an event carries the whole object as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fuseml.domain import errors, events, times
from fuseml.domain.labels import AUXILIARY_PREFIX, RUN_LABEL
from fuseml.domain.plans import identity, outputs
from fuseml.domain.runs import Observation, State

STEP_LABEL = "tekton.dev/pipelineTask"
# An engine that had to call a task otherwise than its step, knew outputs before, or was asked to cancel, says so on the object.
STEPS_ANNOTATION = "fuseml.io/steps"
OUTPUTS_ANNOTATION = "fuseml.io/outputs"
CANCEL_ANNOTATION = "fuseml.io/cancel-reason"
# The container that looks, after a step's own, at its outputs; its exit code is the number of the first that is missing, or that they are
# too large.
CHECK_CONTAINER = f"{AUXILIARY_PREFIX}outputs"
OUTPUTS_TOO_LARGE = 200
CANCEL_REASONS = frozenset({"Cancelled", "TaskRunCancelled", "PipelineRunCancelled", "CancelledRunFinally", "StoppedRunFinally"})
_LATE = re.compile(r'failed to finish within "([^"]+)"')
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def observe(event: events.Event) -> Observation | None:
    """Read a Tekton event (data is v1beta1-shaped whatever the object's version, infra/platform-facts.md 2.3).

    An auxiliary task that fails, a clone, fails the run: the engine's own word on the run only counts its tasks. Returns None for what says
    nothing about our runs: other people's PipelineRuns, other news of auxiliary tasks, kinds without meaning.
    Raises InvalidError for data that is not shaped as Tekton's.
    """
    kind = next((kind for kind in ("pipelineRun", "taskRun") if kind in event.data), None)
    if not event.type.startswith(events.TEKTON_PREFIX) or kind is None:
        return None
    try:
        return _read(event, event.data[kind], is_step=kind == "taskRun")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.InvalidError(f"the data of {event.type} is not shaped as Tekton's: {error}") from error


def _read(event: events.Event, body: Mapping[str, Any], *, is_step: bool) -> Observation | None:
    labels, annotations = (body["metadata"].get(key) or {} for key in ("labels", "annotations"))
    execution, task = labels.get(RUN_LABEL), labels.get(STEP_LABEL) if is_step else None
    if not execution or (is_step and not task):
        return None
    auxiliary = bool(task and task.startswith(AUXILIARY_PREFIX))
    steps: Mapping[str, str] = json.loads(annotations.get(STEPS_ANNOTATION, "{}"))
    status = body.get("status") or {}
    condition: Mapping[str, str] = next((c for c in status.get("conditions") or [] if c.get("type") == "Succeeded"), {})
    results = status.get("taskResults" if is_step else "pipelineResults") or status.get("results") or []
    written = {result["name"]: _result_text(result.get("value")) for result in results}
    state = _state(condition)
    if auxiliary and state != "failed":
        return None
    # Tekton tells what was written before a step failed, too.
    outputs_written = written if state == "succeeded" else {}
    if state == "succeeded" and not is_step:
        outputs_written |= json.loads(annotations.get(OUTPUTS_ANNOTATION, "{}"))
    skipped = [task["name"] for task in status.get("skippedTasks") or []]
    called = {*steps, *steps.values()}
    run_id, number = identity.execution_of(execution)
    cause = _cause(condition, status, annotations.get(CANCEL_ANNOTATION, "")) if state in ("failed", "cancelled") else None
    return Observation(
        run_id=run_id,
        step=steps.get(task, task) if task and not auxiliary else None,
        state=state,
        time=times.normalize(event.time),
        started=times.normalize(status["startTime"]) if status.get("startTime") else None,
        finished=times.normalize(status["completionTime"]) if status.get("completionTime") else None,
        cause=f"{task} failed: {cause}" if auxiliary else cause,
        attempts=1 + len(status.get("retriesStatus") or []),
        outputs=outputs_written,
        skipped=tuple(steps.get(name, name) for name in skipped if not name.startswith(AUXILIARY_PREFIX) or name in called),
        execution=number,
    )


def _state(condition: Mapping[str, str]) -> State:
    status, reason = condition.get("status"), condition.get("reason", "")
    if status == "True":
        return "succeeded"
    if status == "False":
        return "cancelled" if reason in CANCEL_REASONS else "failed"
    return "queued" if not condition or reason in ("Pending", "PipelineRunPending", "TaskRunPending") else "running"


def _cause(condition: Mapping[str, str], status: Mapping[str, Any], asked: str) -> str:
    reason, message = condition.get("reason", ""), asked or condition.get("message", "")
    if (late := _LATE.search(message)) and reason.endswith("Timeout"):
        message = f"timed out after {_seconds(late[1])} s"
    elif trouble := _trouble_with_outputs(status):
        return trouble
    return message if reason in ("", "Failed", "StepFailed") and message else f"{reason}: {message}".strip(": ")


def _trouble_with_outputs(status: Mapping[str, Any]) -> str:
    codes = {item.get("name"): (item.get("terminated") or {}).get("exitCode", 0) for item in status.get("steps") or []}
    found = codes.pop(CHECK_CONTAINER, 0)
    if found == OUTPUTS_TOO_LARGE:
        # Of really large ones the step's own container has failed as well.
        return outputs.TOO_LARGE
    if not found or any(codes.values()):
        return ""  # what comes after a container that fails is skipped, with an exit code too
    declared = [str(result["name"]) for result in (status.get("taskSpec") or {}).get("results") or []]
    missing = declared[found - 1] if found <= len(declared) else "of some name"
    return f"the step finished without writing its output {missing!r}"


def _seconds(duration: str) -> float:
    """Seconds of a duration as Go writes it: 1h0m30s, 1.5s."""
    total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|h|m|s)", duration))
    return int(total) if total == int(total) else total


def _result_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
