"""The records of a run as the events that Tekton would send: types, shapes and reasons follow Tekton's code.

Events and their ids are derived from the records: the same fact is the same event, before and after a restart. The data has no spec,
because Tekton's spec would contain the environment of the steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fuseml.domain import events, plans, times
from fuseml.domain.labels import NAME_LABEL, RUN_LABEL
from fuseml.engines.local import decisions, journal
from fuseml.engines.tekton.events import NO_RESOURCES, STEP_LABEL

NAMESPACE = "local"
PIPELINE_LABEL = "tekton.dev/pipelineRun"
_TYPE_OF = {"succeeded": "successful", "failed": "failed", "cancelled": "failed", "waiting": "running"}


def run_events(plan: plans.Plan, record: journal.RunRecord, steps: Mapping[str, journal.StepRecord]) -> list[events.Event]:
    """The events of the run as a whole. A skipped step has no event of its own; instead, a `running` event with a new number lists it."""
    reported = []
    if record.started is not None:
        reported.append(_run_event(plan, record, "started", 1, record.started, _condition("Unknown", "Started", ""), {}))
    skipped = [{"name": name, "reason": step.reason} for name, step in steps.items() if step.state == "skipped"]
    if skipped and record.finished is None:
        moment = max(step.finished or 0.0 for step in steps.values() if step.state == "skipped")
        condition = _condition("Unknown", "Running", f"Skipped: {len(skipped)}")
        reported.append(_run_event(plan, record, "running", 1 + len(skipped), moment, condition, {"skippedTasks": skipped}))
    if record.finished is not None and record.ending is not None:
        final: dict[str, object] = {"completionTime": times.from_unix(record.finished)}
        if skipped:
            final["skippedTasks"] = skipped
        if record.outputs:
            final["pipelineResults"] = _results(record.outputs)
        condition = _condition("True" if record.state == "succeeded" else "False", record.ending.reason, record.ending.message)
        reported.append(_run_event(plan, record, record.state, 1, record.finished, condition, final))
    return reported


def step_events(plan: plans.Plan, name: str, record: journal.StepRecord) -> list[events.Event]:
    """The events of one step: one for its wait for devices, one for each attempt, one for the finish."""
    reported = []
    if record.wait is not None and record.state == "queued":
        condition = _condition("Unknown", NO_RESOURCES, record.wait.cause)
        # Tekton's event of a retry that waits names the failed attempts, too.
        reported.append(_step_event(plan, name, record.attempts, "waiting", record.wait.since, condition, {}, failed=len(record.attempts)))
    for number, attempt in enumerate(record.attempts, start=1):
        condition = _condition("Unknown", "Running", "Not all Steps in the Task have finished executing")
        reported.append(_step_event(plan, name, record.attempts[:number], "running", attempt.started, condition, {}))
    if record.attempts and record.finished is not None and record.state in _TYPE_OF:
        final: dict[str, object] = {"completionTime": times.from_unix(record.finished)}
        if record.outputs:
            final["taskResults"] = _results(record.outputs)
        if record.state == "succeeded":
            condition = _condition("True", decisions.SUCCEEDED, "All Steps have completed executing")
        else:
            condition = _condition("False", record.reason, record.cause or "")
        reported.append(_step_event(plan, name, record.attempts, record.state, record.finished, condition, final))
    return reported


def all_events(plan: plans.Plan, record: journal.RunRecord, steps: Mapping[str, journal.StepRecord]) -> list[events.Event]:
    """All events of a run, in the order in which they happened."""
    reported = run_events(plan, record, steps)
    for name, step in steps.items():
        reported += step_events(plan, name, step)
    return traced(record, sorted(reported, key=lambda event: event.time))


def traced(record: journal.RunRecord, reported: Sequence[events.Event]) -> list[events.Event]:
    """The events with the trace context of the run's submission."""
    extensions = {"traceparent": record.traceparent} if record.traceparent else {}
    return [dataclasses.replace(event, extensions=extensions) for event in reported]


def _run_event(
    plan: plans.Plan,
    record: journal.RunRecord,
    word: str,
    number: int,
    moment: float,
    condition: dict[str, str],
    more: dict[str, object],
) -> events.Event:
    status = {
        "conditions": [{**condition, "lastTransitionTime": times.from_unix(moment)}],
        "startTime": times.from_unix(record.started or moment),
        **more,
    }
    metadata = {
        "name": plan.run,
        "namespace": NAMESPACE,
        "uid": plan.id,
        "creationTimestamp": times.from_unix(record.created),
        "labels": {RUN_LABEL: plan.id, NAME_LABEL: plan.run, PIPELINE_LABEL: plan.run},
    }
    return _event(
        "pipelinerun",
        f"{plan.id}:run:{word}:{number}",
        word,
        moment,
        {"pipelineRun": {"metadata": metadata, "status": status}},
        plan.run,
    )


def _step_event(
    plan: plans.Plan,
    step: str,
    attempts: Sequence[journal.AttemptRecord],
    word: str,
    moment: float,
    condition: dict[str, str],
    more: dict[str, object],
    failed: int | None = None,
) -> events.Event:
    """`failed` is the number of attempts that have failed: all but the last by default."""
    # Tekton resets the start time with each attempt. These events always carry the first start, so that their order does not matter.
    started = times.from_unix(attempts[0].started if attempts else moment)
    status: dict[str, object] = {"conditions": [{**condition, "lastTransitionTime": times.from_unix(moment)}], "startTime": started, **more}
    if retried := attempts[: max(0, len(attempts) - 1) if failed is None else failed]:
        status["retriesStatus"] = [_retry(attempt) for attempt in retried]
    name = f"{plan.run}-{step}"
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"{plan.id}-{step}",
        "creationTimestamp": started,
        "labels": {RUN_LABEL: plan.id, NAME_LABEL: plan.run, PIPELINE_LABEL: plan.run, STEP_LABEL: step},
    }
    identity = f"{plan.id}:{step}:{word}:{len(attempts)}"
    return _event("taskrun", identity, word, moment, {"taskRun": {"metadata": metadata, "status": status}}, name)


def _retry(attempt: journal.AttemptRecord) -> dict[str, object]:
    condition = _condition("False", decisions.FAILED, attempt.cause or "")
    return {
        "conditions": [condition],
        "startTime": times.from_unix(attempt.started),
        "completionTime": times.from_unix(attempt.finished or attempt.started),
    }


def _event(kind: str, identity: str, word: str, moment: float, data: dict[str, object], name: str) -> events.Event:
    type_ = f"{events.TEKTON_PREFIX}{kind}.{_TYPE_OF.get(word, word)}.v1"
    # Tekton's own source, with its empty group, version and kind.
    return events.Event(type_, f"/apis///namespaces/{NAMESPACE}//{name}", identity, name, times.from_unix(moment), data)


def _condition(status: str, reason: str, message: str) -> dict[str, str]:
    condition = {"type": "Succeeded", "status": status, "reason": reason}
    return {**condition, "message": message} if message else condition


def _results(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": "string", "value": value} for name, value in values.items()]
