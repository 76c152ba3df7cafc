"""The life of a run: states that only move forward, whatever order and however often events arrive.

Engines tell what happened as Tekton's events (duplicated and unordered, tektoncd/pipeline docs/events.md). Each becomes an
`Observation`; applying observations is idempotent and, up to the finish, commutative.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fuseml.domain import errors, events, outputs

State = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "skipped"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})
_RANK = {"queued": 0, "waiting": 1, "running": 1, "succeeded": 2, "failed": 2, "cancelled": 2, "skipped": 2}

RUN_LABEL = "fuseml.io/run-id"
NAME_LABEL = "fuseml.io/run"
STEP_LABEL = "tekton.dev/pipelineTask"
# An engine that had to call a task otherwise than its step, knew outputs before, or was asked to cancel, says so on the object.
STEPS_ANNOTATION = "fuseml.io/steps"
OUTPUTS_ANNOTATION = "fuseml.io/outputs"
CANCEL_ANNOTATION = "fuseml.io/cancel-reason"
# The W3C traceparent of what started the run: its engine's events carry none of their own.
TRACE_ANNOTATION = "fuseml.io/traceparent"
# Tasks that an engine adds on its own (clone, build preparation) carry names that no step can have.
AUXILIARY_PREFIX = "fuseml-"
# The container that looks, after a step's own, at its outputs; its exit code is the number of the first that is missing, or that they are
# too large.
CHECK_CONTAINER = f"{AUXILIARY_PREFIX}outputs"
OUTPUTS_TOO_LARGE = 200

_LATE = re.compile(r'failed to finish within "([^"]+)"')
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_COUNTED = "Tasks Completed:"

# What stands behind a run's id in the id of its second execution and of those that follow.
_NUMBERED = re.compile(r"(?P<run>.+)\.(?P<number>[1-9][0-9]{0,8})")

CANCEL_REASONS = frozenset({"Cancelled", "TaskRunCancelled", "PipelineRunCancelled", "CancelledRunFinally", "StoppedRunFinally"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run or one of its steps has come. Times are RFC 3339, `attempts` counts from 1 once it has started."""

    state: State = "queued"
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    attempts: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one engine event says: of the whole execution, or of `step`. `skipped` names steps of which no event of their own will come.

    `execution` is its number: an engine gets a run that waits for people in several parts (domain.course).
    """

    run_id: str
    step: str | None
    state: State
    time: str
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    attempts: int = 1
    outputs: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    execution: int = 1


def execution_id(run_id: str, number: int) -> str:
    """What engines call an execution of a run; the first one bears the run's own id."""
    return run_id if number <= 1 else f"{run_id}.{number}"


def execution_of(execution: str) -> tuple[str, int]:
    """The run's id and the number of the execution that engines call so."""
    match = _NUMBERED.fullmatch(execution)
    return (match["run"], int(match["number"])) if match else (execution, 1)


def advance(current: Progress, seen: Observation) -> Progress:
    """The progress after an observation. An observation of an earlier state only fills in what was missing; the first finish wins."""
    # The earliest start and the most attempts that anything tells of: so it does not matter what comes first.
    begun = seen.started or seen.time if seen.state == "running" else seen.started if seen.state in FINISHED else None
    known = dataclasses.replace(
        current,
        started=min(filter(None, (current.started, begun)), default=None),
        attempts=max(current.attempts, seen.attempts if begun else 0),
    )
    if current.state in FINISHED or _RANK[seen.state] < _RANK[current.state]:
        return known
    if seen.state in FINISHED:
        finished = seen.finished or seen.time
        return dataclasses.replace(known, state=seen.state, finished=finished, cause=seen.cause, outputs=dict(seen.outputs))
    return dataclasses.replace(known, state=seen.state)


def observe(event: events.Event) -> Observation | None:
    """Read a Tekton event (data is v1beta1-shaped whatever the object's version, platform facts 2.2).

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
    outputs = written if state == "succeeded" else {}
    if state == "succeeded" and not is_step:
        outputs |= json.loads(annotations.get(OUTPUTS_ANNOTATION, "{}"))
    skipped = [task["name"] for task in status.get("skippedTasks") or []]
    called = {*steps, *steps.values()}
    run_id, number = execution_of(execution)
    cause = _cause(condition, status, annotations.get(CANCEL_ANNOTATION, "")) if state in ("failed", "cancelled") else None
    return Observation(
        run_id=run_id,
        step=steps.get(task, task) if task and not auxiliary else None,
        state=state,
        time=_moment(event.time),
        started=_moment(status["startTime"]) if status.get("startTime") else None,
        finished=_moment(status["completionTime"]) if status.get("completionTime") else None,
        cause=f"{task} failed: {cause}" if auxiliary else cause,
        attempts=1 + len(status.get("retriesStatus") or []),
        outputs=outputs,
        skipped=tuple(steps.get(name, name) for name in skipped if not name.startswith(AUXILIARY_PREFIX) or name in called),
        execution=number,
    )


def _moment(time: str) -> str:
    # Tekton writes whole seconds and nanoseconds; ours have a fixed width, so that text order is time order.
    return datetime.datetime.fromisoformat(time).astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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


def blame(cause: str | None, steps: Mapping[str, Progress]) -> str | None:
    """The cause of a run's failure, better told: where an engine only counts its tasks, the first step that failed and why."""
    if cause and cause.startswith(_COUNTED):
        for name, step in steps.items():
            if step.state == "failed":
                return f"step {name!r} failed: {step.cause}"
    return cause


def _result_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def identity(workflow: str, revision: int, inputs: Mapping[str, str], trigger: str) -> str:
    """The meaning of a run: the same workflow revision on the same inputs for the same trigger is one run (design section 4).

    Returns 32 hex digits; also the run's id.
    """
    meaning = json.dumps([workflow, revision, sorted(inputs.items()), trigger], separators=(",", ":"))
    return hashlib.sha256(meaning.encode()).hexdigest()[:32]
