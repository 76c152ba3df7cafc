"""The run's records, told as the events that Tekton would send (types, shape and reasons as recorded from Tekton's own code).

Everything here is derived from the records, ids included: the same fact told twice is the same event, before and after a restart. Data
holds no spec, because Tekton's would carry the environment of the steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fuseml.domain import events, plans, times
from fuseml.domain.labels import NAME_LABEL, RUN_LABEL
from fuseml.engines.local import decisions, journal
from fuseml.engines.tekton.events import STEP_LABEL

NAMESPACE = "local"
PIPELINE_LABEL = "tekton.dev/pipelineRun"
_TYPE_OF = {"succeeded": "successful", "failed": "failed", "cancelled": "failed"}


def run_events(planned: plans.Plan, record: journal.RunRecord, steps: Mapping[str, journal.StepRecord]) -> list[events.Event]:
    """The events about the run as a whole. A `running` event with a new number follows each skipped step, which has no event of its own."""
    told = []
    if record.started is not None:
        told.append(_run_event(planned, record, "started", 1, record.started, _condition("Unknown", "Started", ""), {}))
    skipped = [{"name": name, "reason": step.reason} for name, step in steps.items() if step.state == "skipped"]
    if skipped and record.finished is None:
        moment = max(step.finished or 0.0 for step in steps.values() if step.state == "skipped")
        condition = _condition("Unknown", "Running", f"Skipped: {len(skipped)}")
        told.append(_run_event(planned, record, "running", 1 + len(skipped), moment, condition, {"skippedTasks": skipped}))
    if record.finished is not None and record.ending is not None:
        final: dict[str, object] = {"completionTime": times.from_unix(record.finished)}
        if skipped:
            final["skippedTasks"] = skipped
        if record.outputs:
            final["pipelineResults"] = _results(record.outputs)
        condition = _condition("True" if record.state == "succeeded" else "False", record.ending.reason, record.ending.message)
        told.append(_run_event(planned, record, record.state, 1, record.finished, condition, final))
    return told


def step_events(planned: plans.Plan, name: str, record: journal.StepRecord) -> list[events.Event]:
    """The events about one step: one for each attempt, one for the finish."""
    told = []
    for number, attempt in enumerate(record.attempts, start=1):
        condition = _condition("Unknown", "Running", "Not all Steps in the Task have finished executing")
        told.append(_step_event(planned, name, record.attempts[:number], "running", attempt.started, condition, {}))
    if record.attempts and record.finished is not None and record.state in _TYPE_OF:
        final: dict[str, object] = {"completionTime": times.from_unix(record.finished)}
        if record.outputs:
            final["taskResults"] = _results(record.outputs)
        if record.state == "succeeded":
            condition = _condition("True", decisions.SUCCEEDED, "All Steps have completed executing")
        else:
            condition = _condition("False", record.reason, record.cause or "")
        told.append(_step_event(planned, name, record.attempts, record.state, record.finished, condition, final))
    return told


def all_events(planned: plans.Plan, record: journal.RunRecord, steps: Mapping[str, journal.StepRecord]) -> list[events.Event]:
    """Everything there is to tell about a run, in the order in which it happened."""
    told = run_events(planned, record, steps)
    for name, step in steps.items():
        told += step_events(planned, name, step)
    return traced(record, sorted(told, key=lambda event: event.time))


def traced(record: journal.RunRecord, told: Sequence[events.Event]) -> list[events.Event]:
    """The events as consequences of what started the run."""
    carried = {"traceparent": record.traceparent} if record.traceparent else {}
    return [dataclasses.replace(event, extensions=carried) for event in told]


def _run_event(
    planned: plans.Plan,
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
        "name": planned.run,
        "namespace": NAMESPACE,
        "uid": planned.id,
        "creationTimestamp": times.from_unix(record.created),
        "labels": {RUN_LABEL: planned.id, NAME_LABEL: planned.run, PIPELINE_LABEL: planned.run},
    }
    return _event(
        "pipelinerun",
        f"{planned.id}:run:{word}:{number}",
        word,
        moment,
        {"pipelineRun": {"metadata": metadata, "status": status}},
        planned.run,
    )


def _step_event(
    planned: plans.Plan,
    step: str,
    attempts: Sequence[journal.AttemptRecord],
    word: str,
    moment: float,
    condition: dict[str, str],
    more: dict[str, object],
) -> events.Event:
    # Tekton starts the clock anew with each attempt; the first start is told always, so that the order of events cannot matter.
    started = times.from_unix(attempts[0].started)
    status: dict[str, object] = {"conditions": [{**condition, "lastTransitionTime": times.from_unix(moment)}], "startTime": started, **more}
    if len(attempts) > 1:
        status["retriesStatus"] = [_retry(attempt) for attempt in attempts[:-1]]
    name = f"{planned.run}-{step}"
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"{planned.id}-{step}",
        "creationTimestamp": started,
        "labels": {RUN_LABEL: planned.id, NAME_LABEL: planned.run, PIPELINE_LABEL: planned.run, STEP_LABEL: step},
    }
    identity = f"{planned.id}:{step}:{word}:{len(attempts)}"
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
