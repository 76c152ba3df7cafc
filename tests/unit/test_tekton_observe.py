"""Observed events are equivalent to the events that Tekton sends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import pytest

from fuseml.domain import events, plans
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton import TektonEngine
from fuseml.engines.tekton.events import observe
from tests import deliveries
from tests.contract import engines
from tests.unit import tekton_plans
from tests.unit.kubernetes_api import Api
from tests.unit.tekton_runs import api, condition, engine, start_run, task_run

__all__ = ["api", "engine"]


def test_a_run_is_observed_from_its_start_to_its_end(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    engine.submit(plan, {})
    assert engine.observe(plan.id) == []
    [pipeline_run] = api.all("pipelineruns")
    pipeline_run["status"] = {"conditions": [condition("Unknown", "Started")], "startTime": "2026-11-20T10:00:00Z"}
    assert types(engine.observe(plan.id)) == ["pipelinerun.started.v1"]
    pipeline_run["status"] |= {"conditions": [condition("Unknown", "Running")], "skippedTasks": [{"name": "never", "reason": "When"}]}
    task_run(api, pipeline_run, "ask", conditions=[condition("Unknown", "Pending")], startTime="2026-11-20T10:00:01Z")
    task_run(api, pipeline_run, "fuseml-clone-x-0123", conditions=[condition("Unknown", "Running")], startTime="2026-11-20T10:00:01Z")
    progress = engines.fold(engine.observe(plan.id))
    assert (progress.run.state, progress.states) == ("running", {"ask": "queued", "never": "skipped"})
    task_run(
        api,
        pipeline_run,
        "ask",
        conditions=[condition("True", "Succeeded")],
        startTime="2026-11-20T10:00:30Z",
        completionTime="2026-11-20T10:01:00Z",
        results=[{"name": "verdict", "type": "string", "value": "good"}],
        retriesStatus=[{"conditions": [condition("False", "Failed")], "startTime": "2026-11-20T10:00:01Z", "podName": "p-1"}],
    )
    task_run(api, pipeline_run, "deploy", conditions=[condition("False", "Failed", "exited with code 3")], startTime="2026-11-20T10:01:01Z")
    pipeline_run["status"] |= {
        "conditions": [condition("False", "Failed", "step 'deploy' failed: exited with code 3")],
        "completionTime": "2026-11-20T10:02:00Z",
        "skippedTasks": [{"name": "never", "reason": "When"}, {"name": "announce", "reason": "PipelineRun was stopping"}],
    }
    reported = engine.observe(plan.id)
    progress = engines.fold(reported)
    assert progress.states == {"ask": "succeeded", "deploy": "failed", "announce": "skipped", "never": "skipped"}
    assert (progress.run.state, progress.run.cause) == ("failed", "step 'deploy' failed: exited with code 3")
    ask = progress.steps["ask"]
    assert (ask.attempts, ask.outputs, ask.started) == (2, {"verdict": "good"}, "2026-11-20T10:00:01.000000Z")
    assert progress == engines.fold(reversed(reported))
    assert reported == engine.observe(plan.id)
    assert len({(event.source, event.id) for event in reported}) == len(reported)
    assert "env" not in json.dumps([event.data for event in reported])


def test_a_failed_clone_is_reported_before_the_failure_of_its_run(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    engine.submit(plan, {})
    [pipeline_run] = api.all("pipelineruns")
    end = "2026-11-20T10:00:09Z"
    pull_failed = condition("False", "TaskRunImagePullFailed", "no such image")
    task_run(api, pipeline_run, "fuseml-clone-x-0123", conditions=[pull_failed], startTime="2026-11-20T10:00:01Z", completionTime=end)
    counted = condition("False", "Failed", "Tasks Completed: 1 (Failed: 1, Cancelled 0), Skipped: 3")
    pipeline_run["status"] = {"conditions": [counted], "startTime": "2026-11-20T10:00:00Z", "completionTime": end}
    progress = engines.fold(engine.observe(plan.id))
    assert (progress.run.state, progress.run.cause) == ("failed", "fuseml-clone-x-0123 failed: TaskRunImagePullFailed: no such image")
    assert set(progress.states.values()) == {"skipped"}


@pytest.mark.parametrize("completed", ["2026-11-20T10:00:08Z", "2026-11-20T10:00:09Z", "2026-11-20T10:00:10Z"])
def test_the_end_of_a_run_is_reported_after_the_ends_of_its_steps(api: Api, engine: TektonEngine, completed: str) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    pipeline_run = start_run(api, engine, plan)
    stopped = condition("False", "TaskRunCancelled")
    task_run(api, pipeline_run, "ask", conditions=[stopped], startTime="2026-11-20T10:00:01Z", completionTime="2026-11-20T10:00:09Z")
    pipeline_run["status"] |= {"conditions": [condition("False", "Cancelled")], "completionTime": completed}
    expected = ["pipelinerun.started.v1", "taskrun.running.v1", "taskrun.failed.v1", "pipelinerun.failed.v1"]
    assert types(engine.observe(plan.id)) == expected


def types(reported: Iterable[events.Event]) -> list[str]:
    return [event.type.removeprefix("dev.tekton.event.") for event in reported]


def test_steps_that_a_cancelled_run_never_started_are_skipped(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["conditions"]()
    pipeline_run = start_run(api, engine, plan)
    task_run(api, pipeline_run, "ask", conditions=[condition("False", "TaskRunCancelled")], startTime="2026-11-20T10:00:01Z")
    pipeline_run["status"] |= {"conditions": [condition("False", "Cancelled", "was cancelled")], "completionTime": "2026-11-20T10:02:00Z"}
    progress = engines.fold(engine.observe(plan.id))
    assert progress.run.state == "cancelled"
    assert progress.states == {"ask": "cancelled", "deploy": "skipped", "announce": "skipped", "never": "skipped"}


def test_events_carry_the_names_of_steps_not_of_tasks(api: Api, engine: TektonEngine) -> None:
    plan = tekton_plans.PLANS["names"]()
    pipeline_run = start_run(api, engine, plan)
    first, second = (task["name"] for task in pipeline_run["spec"]["pipelineSpec"]["tasks"])
    task_run(api, pipeline_run, first, conditions=[condition("True", "Succeeded")], startTime="2026-11-20T10:00:01Z")
    pipeline_run["status"] |= {"skippedTasks": [{"name": second, "reason": "x"}]}
    assert engines.fold(engine.observe(plan.id)).states == {"Prepare Data": "succeeded", "fuseml-mine": "skipped"}


def test_the_outputs_of_a_run_include_constant_outputs(api: Api, engine: TektonEngine) -> None:
    step = engines.shell("a", "true", outputs=["o"])
    plan = tekton_plans.make(step, outputs={"x": engines.out("a", "o"), "y": plans.text("m")})
    pipeline_run = start_run(api, engine, plan)
    pipeline_run["status"] |= {"conditions": [condition("True", "Succeeded")], "results": [{"name": "x", "value": "1"}]}
    assert engines.fold(engine.observe(plan.id)).run.outputs == {"x": "1", "y": "m"}
    pipeline_run["status"] |= {"conditions": [condition("False", "Failed")], "results": []}
    assert engines.fold(engine.observe(plan.id)).run.outputs == {}


EVENTS = [
    *("pipelinerun.successful", "pipelinerun.failed", "pipelinerun.cancelled", "pipelinerun.timeout", "pipelinerun.completed-with-skips"),
    *("pipelinerun.running", "pipelinerun.started", "taskrun.successful", "taskrun.failed", "taskrun.cancelled", "taskrun.running"),
    *("taskrun.unknown-pending", "taskrun.unknown-toberetried"),
]


@pytest.mark.parametrize("name", EVENTS)
def test_observed_events_are_equivalent_to_recorded_events_of_tekton(name: str, api: Api, engine: TektonEngine) -> None:
    sent, body = deliveries.read("tekton", f"{name}.http")
    [(kind, original)] = json.loads(body).items()
    original["metadata"]["labels"][RUN_LABEL] = tekton_plans.RUN_ID
    child = {"metadata": {"name": "child", "labels": {**original["metadata"]["labels"], "tekton.dev/pipelineTask": "trainer"}}}
    parent = {"metadata": {"name": "parent", "labels": original["metadata"]["labels"]}}
    api.put("taskruns", as_v1(original if kind == "taskRun" else child))
    api.put("pipelineruns", as_v1(original if kind == "pipelineRun" else parent))
    recorded = events.Event(sent["Ce-Type"], sent["Ce-Source"], sent["Ce-Id"], sent["Ce-Subject"], sent["Ce-Time"], {kind: original})
    observed = [event for event in engine.observe(tekton_plans.RUN_ID) if kind in event.data][-1]
    assert (observed.type, observed.source, observed.subject) == (recorded.type, recorded.source, recorded.subject)
    observation, expected = observe(observed), observe(recorded)
    assert observation is not None
    assert expected is not None
    assert dataclasses.replace(observation, time=expected.time) == expected


def as_v1(event_object: dict[str, Any]) -> dict[str, Any]:
    """The stored v1 object of an event's object, which has the v1beta1 shape."""
    document = json.loads(json.dumps(event_object))
    status = document.setdefault("status", {})
    for name in ("pipelineResults", "taskResults"):
        if name in status:
            status["results"] = status.pop(name)
    skipped = [task["name"] for task in status.get("skippedTasks", [])]
    tasks = [{"name": name, "taskSpec": {"steps": [{"name": "run"}]}} for name in ("trainer", *skipped)]
    return {**document, "spec": {"pipelineSpec": {"tasks": tasks}}}
