"""Runs with approvals in combination with the cache, concurrency groups, and resumed runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fuseml.domain import events, plans
from fuseml.store import database, runs
from tests.component import approving
from tests.component.requesting import refused

CACHED = """
name: train
steps:
  - {name: prepare, image: "shell:1", cache: true, outputs: [{name: data}]}
  - name: fit
    image: shell:1
    cache: true
    approval: {message: "fit?"}
    inputs: [{name: data, value: "{{ steps.prepare.outputs.data }}"}]
    outputs: [{name: model}]
  - name: report
    image: shell:1
    cache: true
    inputs: [{name: model, value: "{{ steps.fit.outputs.model }}"}]
    outputs: [{name: page}]
"""
GROUPED = """
name: train
concurrency: {policy: POLICY}
steps:
  - {name: fit, image: "shell:1", approval: {message: "fit?", expires: 1h}}
"""


@pytest.fixture
def store(sqlite_store: database.Database) -> database.Database:
    return sqlite_store


def start(system: approving.System) -> dict[str, Any]:
    return system.request("/runs", {"workflow": "train", "project": "p"})


def run_of(system: approving.System, name: str) -> dict[str, Any]:
    return dict(system.runs.get(f"/runs/{name}").get_json())


def approve(system: approving.System, name: str) -> None:
    response = system.runs.post(f"/runs/{name}/approve")
    assert response.status_code == 202, response.text
    system.deliver()


def cached(store: database.Database) -> approving.System:
    """A system with a succeeded run of two executions."""
    system = approving.System(store, CACHED)
    run_id = start(system)["id"]
    system.report(run_id, "prepare", "succeeded", data="d")
    system.report(run_id, None, "succeeded")
    approve(system, "train-1")
    system.report(f"{run_id}.2", "fit", "succeeded", model="m")
    system.report(f"{run_id}.2", "report", "succeeded", page="p")
    system.report(f"{run_id}.2", None, "succeeded")
    assert run_of(system, "train-1")["state"] == "succeeded"
    return system


def test_with_reused_steps_a_run_only_executes_the_steps_from_its_approval_on(store: database.Database) -> None:
    system = cached(store)
    system.engine.plans.clear()
    again = start(system)
    assert (again["state"], system.engine.plans) == ("waiting", [])
    assert [(step["name"], step["state"], step["reused_from"], step["not_reused"]) for step in again["steps"]] == [
        ("prepare", "succeeded", "train-1", None),
        ("fit", "waiting", None, "it asks for an approval each time"),
        ("report", "queued", None, "it needs the outputs of step fit, which runs"),
    ]
    approve(system, "train-2")
    [plan] = system.engine.plans
    assert (plan.id, [step.name for step in plan.steps]) == (again["id"], ["fit", "report"])


def test_a_run_that_began_with_an_approval_publishes_its_start_once(store: database.Database) -> None:
    system = cached(store)
    run_id = start(system)["id"]
    system.ledger.clear()
    approve(system, "train-2")
    system.report(run_id, None, "running")
    system.report(run_id, "fit", "running")
    assert [data["run"] for data in system.published(events.RunStarted)] == ["train-2"]
    assert run_of(system, "train-2")["started"] is not None


def test_a_reused_step_cannot_be_the_last_or_only_step_of_a_locked_run(store: database.Database) -> None:
    system = cached(store)
    start(system)
    approve(system, "train-2")
    for option in ("until", "only"):
        message = refused(system.runs.post("/runs/train-2/rerun", json={"locked": True, option: "prepare"}), 404)
        assert message == "run train-2 does not execute step 'prepare': it reuses the outputs of train-1"


def test_a_cancelled_run_is_resumed_on_the_outputs_of_its_executions_and_of_other_runs(store: database.Database) -> None:
    system = cached(store)
    run_id = start(system)["id"]
    approve(system, "train-2")
    system.report(run_id, "fit", "succeeded", model="m2")
    system.report(run_id, "report", "failed")
    system.report(run_id, None, "failed")
    resumed = system.request("/runs/train-2/resume")
    # No approval is requested for a step that was approved and has succeeded.
    assert [(step["name"], step["state"], step["reused_from"]) for step in resumed["steps"]] == [
        ("prepare", "succeeded", "train-1"),
        ("fit", "succeeded", "train-2"),
        ("report", "queued", None),
    ]
    assert [step.name for step in system.engine.plans[-1].steps] == ["report"]


def test_an_approval_is_requested_when_the_turn_of_the_run_comes(store: database.Database) -> None:
    system = approving.System(store, GROUPED.replace("POLICY", "queue"))
    first, second = start(system), start(system)
    assert [(run["state"], run["waits_for"]) for run in (first, second)] == [("waiting", None), ("queued", "train-1")]
    assert run_of(system, "train-2")["steps"][0]["approval"] is None
    assert system.runs.post("/runs/train-2/approve").status_code == 409

    approve(system, "train-1")
    system.report(first["id"], "fit", "succeeded")
    system.report(first["id"], None, "succeeded")
    finished = events.RunFinished(run="train-1", workflow="train", project="p", codeset=None, commit=None, state="succeeded")
    system.deliver_to(system.dispatcher, events.event(finished, "2026-11-21T12:00:00.000000Z"))
    system.deliver()

    run = run_of(system, "train-2")
    assert (run["state"], run["waits_for"]) == ("waiting", None)
    assert run["steps"][0]["approval"]["asked"] > run_of(system, "train-1")["finished"]
    assert [data["run"] for data in system.published(events.RunApprovalRequested)] == ["train-1", "train-2"]


def test_the_sweep_begins_a_run_whose_turn_was_missed(store: database.Database) -> None:
    system = approving.System(store, GROUPED.replace("POLICY", "queue"))
    start(system)
    start(system)
    system.decide("reject")
    system.deliver()
    with store.write() as session:
        runs.get(session, "train-2").created = "2026-11-20T12:00:00.000000Z"
    system.tick()
    assert run_of(system, "train-2")["state"] == "waiting"


def test_a_newer_run_supersedes_a_waiting_one_and_withdraws_its_approval(store: database.Database) -> None:
    system = approving.System(store, GROUPED.replace("POLICY", "cancel"))
    start(system)
    second = start(system)
    first = run_of(system, "train-1")
    assert (first["state"], first["cause"], first["steps"][0]["approval"]) == ("cancelled", "superseded by train-2", None)
    assert (second["state"], second["waits_for"]) == ("waiting", None)
    assert "the run is cancelled" in refused(system.runs.post("/runs/train-1/approve"), 409)
    assert system.engine.cancelled == []


def test_a_newer_run_supersedes_one_that_waits_between_two_executions_at_once(store: database.Database) -> None:
    system = approving.System(
        store, approving.FORKED.replace("inputs:\n  - {name: code, type: codeset}\n", "concurrency: {policy: cancel}\n")
    )
    run_id = start(system)["id"]
    for step in ("report", "prepare"):
        system.report(run_id, step, "succeeded")
    system.report(run_id, None, "succeeded")
    assert run_of(system, "train-1")["state"] == "waiting"
    second = start(system)
    assert run_of(system, "train-1")["state"] == "cancelled"
    # No execution of the older run is in the engine, so the newer one need not wait.
    assert [plan.id for plan in system.engine.plans] == [run_id, second["id"]]


def test_the_sweep_observes_no_run_that_only_waits(store: database.Database) -> None:
    system, run_id = approving.waiting(store)
    system.tick()
    assert system.engine.observed == []
    system.decide("approve")
    system.deliver()
    system.tick()
    assert system.engine.observed == [f"{run_id}.2"]


def test_the_sweep_observes_a_step_without_a_reported_end_after_its_execution(store: database.Database) -> None:
    system = approving.System(store, approving.GATED)
    run_id = system.start()["id"]
    system.report(run_id, None, "succeeded")
    system.tick()
    assert system.engine.observed == [run_id]


class Slow(approving.Engine):
    """Refuses a plan after something else has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        self.meanwhile()
        super().submit(plan, secrets)


class SlowSystem(approving.System):
    engine: Slow

    def make_engine(self) -> approving.Engine:
        return Slow()


def test_a_run_that_is_cancelled_while_its_plan_is_refused_ends_once(store: database.Database) -> None:
    system = SlowSystem(store, approving.GATED)
    requested = events.event(events.RunCancelRequested(run="train-1", reason="wrong data"), "2026-11-21T12:00:00.000000Z")

    def cancel() -> None:
        system.engine.meanwhile = lambda: None
        system.deliver_to(system.dispatcher, requested)

    system.engine.refusal, system.engine.meanwhile = "no such image", cancel
    system.start()
    system.deliver()
    assert (system.run()["state"], system.run()["cause"]) == ("cancelled", "wrong data")
    assert len([event for event in system.ledger if event.type == events.RunFinished.TYPE]) == 1
