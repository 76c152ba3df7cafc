"""Decisions about a run: pure functions of the plan and the records of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fuseml.domain import errors, plans, runs
from fuseml.engines.local import journal

# Tekton's reasons: for skipped tasks and for the ends of runs and tasks.
SKIP_WHEN = "When Expressions evaluated to false"
SKIP_PARENT = "Parent Tasks were skipped"
SKIP_STOPPING = "PipelineRun was stopping"
FAILED, CANCELLED, TIMED_OUT = "Failed", "Cancelled", "PipelineRunTimeout"
SUCCEEDED, COMPLETED = "Succeeded", "Completed"
STEP_CANCELLED, STEP_TIMED_OUT = "TaskRunCancelled", "TaskRunTimeout"
_LONGEST_BACKOFF = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an engine: `max_parallel` attempts at once over all runs; times in seconds.

    `backoff` is the pause before the first retry, `grace` the time between SIGTERM and SIGKILL.
    """

    max_parallel: int
    backoff: float
    grace: float


@dataclass(slots=True)
class Actions:
    """Due actions: steps to start, steps to skip (with the reason) and steps that cannot start (with the cause).

    `due` is the time of the next check in Unix seconds.
    """

    start: list[str] = field(default_factory=list)
    skip: dict[str, str] = field(default_factory=dict)
    fail: dict[str, str] = field(default_factory=dict)
    due: float = math.inf


def actions(plan: plans.Plan, steps: Mapping[str, journal.StepRecord], now: float) -> Actions:
    """The due actions of a run without an ending. A step that needs a skipped step is skipped as well."""
    outputs = {name: record.outputs for name, record in steps.items()}
    result = Actions()
    for step in plan.steps:
        record = steps[step.name]
        needed = ["skipped" if need in result.skip else steps[need].state for need in step.needs]
        if record.state != "queued":
            continue
        if "skipped" in needed:
            result.skip[step.name] = SKIP_PARENT
        elif any(state != "succeeded" for state in needed):
            continue
        elif record.retry_at is not None and record.retry_at > now:
            result.due = min(result.due, record.retry_at)
        else:
            _decide(step, outputs, result)
    return result


def _decide(step: plans.StepPlan, outputs: Mapping[str, Mapping[str, str]], result: Actions) -> None:
    try:
        runs_now = all(plans.holds(condition, outputs) for condition in step.when)
    except errors.PermanentError as error:
        result.fail[step.name] = error.message
        return
    if runs_now:
        result.start.append(step.name)
    else:
        result.skip[step.name] = SKIP_WHEN


def backoff(first: float, failed: int) -> float:
    """Seconds before the next attempt after `failed` failed ones: doubled each time, one minute at most."""
    return min(first * 2.0 ** min(failed - 1, 30), _LONGEST_BACKOFF)


def outcome(plan: plans.Plan, steps: Mapping[str, journal.StepRecord]) -> journal.Ending | None:
    """The ending that follows from the records of the steps; None while steps can still change it. The first failure in plan order is the cause."""
    for step in plan.steps:
        record = steps[step.name]
        if record.state == "failed":
            return journal.Ending(reason=FAILED, message=f"step {step.name!r} failed: {record.cause}")
    if not all(record.state in runs.FINISHED for record in steps.values()):
        return None
    counts = {state: sum(record.state == state for record in steps.values()) for state in ("succeeded", "skipped")}
    message = f"Tasks Completed: {counts['succeeded']} (Failed: 0, Cancelled 0), Skipped: {counts['skipped']}"
    return journal.Ending(reason=COMPLETED if counts["skipped"] else SUCCEEDED, message=message)


def state(ending: journal.Ending) -> runs.State:
    """The final state of a run with this ending."""
    if ending.reason in (SUCCEEDED, COMPLETED):
        return "succeeded"
    return "cancelled" if ending.reason == CANCELLED else "failed"


def run_outputs(plan: plans.Plan, steps: Mapping[str, journal.StepRecord]) -> dict[str, str]:
    """The outputs of a run. Outputs that depend on a skipped step are omitted, as Tekton does."""
    written = {name: record.outputs for name, record in steps.items()}
    skipped = {name for name, record in steps.items() if record.state == "skipped"}
    return {
        name: plans.evaluate(value, written, plans.no_secret)
        for name, value in plan.outputs.items()
        if not any(isinstance(part, plans.OutputPart) and part.step in skipped for part in value)
    }
