"""Runs that wait for people, together with what else decides when and what a run executes: the cache, concurrency groups, repairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fuseml.domain import events, plans
from fuseml.store import database, runs
from tests.component import test_approvals as approvals
from tests.component.test_runs_requests import refused

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


def start(system: approvals.System) -> dict[str, Any]:
    return system.ask("/runs", {"workflow": "train", "project": "p"})


def shown(system: approvals.System, name: str) -> dict[str, Any]:
    return dict(system.runs.get(f"/runs/{name}").json)


def approve(system: approvals.System, name: str) -> None:
    answer = system.runs.post(f"/runs/{name}/approve")
    assert answer.status_code == 202, answer.text
    system.deliver()


def cached(store: database.Database) -> approvals.System:
    """A run that has executed everything, in two parts."""
    system = approvals.System(store, CACHED)
    run_id = start(system)["id"]
    system.see(run_id, "prepare", "succeeded", data="d")
    system.see(run_id, None, "succeeded")
    approve(system, "train-1")
    system.see(f"{run_id}.2", "fit", "succeeded", model="m")
    system.see(f"{run_id}.2", "report", "succeeded", page="p")
    system.see(f"{run_id}.2", None, "succeeded")
    assert shown(system, "train-1")["state"] == "succeeded"
    return system


def test_what_is_reused_before_a_question_leaves_nothing_to_execute_but_what_is_asked_for(store: database.Database) -> None:
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
    [part] = system.engine.plans
    assert (part.id, [step.name for step in part.steps]) == (again["id"], ["fit", "report"])


def test_a_run_that_began_with_a_question_says_once_that_it_has_started(store: database.Database) -> None:
    system = cached(store)
    run_id = start(system)["id"]
    system.ledger.clear()
    approve(system, "train-2")
    system.see(run_id, None, "running")
    system.see(run_id, "fit", "running")
    assert [data["run"] for data in system.told(events.RunStarted)] == ["train-2"]
    assert shown(system, "train-2")["started"] is not None


def test_what_a_locked_run_reuses_cannot_be_its_end_or_its_only_step(store: database.Database) -> None:
    system = cached(store)
    start(system)
    approve(system, "train-2")
    for wish in ("until", "only"):
        told = refused(system.runs.post("/runs/train-2/rerun", json={"locked": True, wish: "prepare"}), 404)
        assert told == "run train-2 does not execute step 'prepare': it reuses the outputs of train-1"


def test_a_cancelled_run_is_resumed_on_what_its_parts_and_others_have_put_out(store: database.Database) -> None:
    system = cached(store)
    run_id = start(system)["id"]
    approve(system, "train-2")
    system.see(run_id, "fit", "succeeded", model="m2")
    system.see(run_id, "report", "failed")
    system.see(run_id, None, "failed")
    resumed = system.ask("/runs/train-2/resume")
    # Nobody is asked about a step that was approved and has succeeded.
    assert [(step["name"], step["state"], step["reused_from"]) for step in resumed["steps"]] == [
        ("prepare", "succeeded", "train-1"),
        ("fit", "succeeded", "train-2"),
        ("report", "queued", None),
    ]
    assert [step.name for step in system.engine.plans[-1].steps] == ["report"]


def test_nobody_is_asked_before_it_is_the_runs_turn(store: database.Database) -> None:
    system = approvals.System(store, GROUPED.replace("POLICY", "queue"))
    first, second = start(system), start(system)
    assert [(run["state"], run["waits_for"]) for run in (first, second)] == [("waiting", None), ("queued", "train-1")]
    assert shown(system, "train-2")["steps"][0]["approval"] is None
    assert system.runs.post("/runs/train-2/approve").status_code == 409

    approve(system, "train-1")
    system.see(first["id"], "fit", "succeeded")
    system.see(first["id"], None, "succeeded")
    finished = events.RunFinished(run="train-1", workflow="train", project="p", codeset=None, commit=None, state="succeeded")
    system.hand(system.dispatcher, events.event(finished, "2026-11-21T12:00:00.000000Z"))
    system.deliver()

    asked = shown(system, "train-2")
    assert (asked["state"], asked["waits_for"]) == ("waiting", None)
    assert asked["steps"][0]["approval"]["asked"] > shown(system, "train-1")["finished"]
    assert [data["run"] for data in system.told(events.RunApprovalRequested)] == ["train-1", "train-2"]


def test_a_turn_of_which_nobody_heard_is_made_good_by_the_sweep(store: database.Database) -> None:
    system = approvals.System(store, GROUPED.replace("POLICY", "queue"))
    start(system)
    start(system)
    system.answer("reject")
    system.deliver()
    with store.write() as session:
        runs.get(session, "train-2").created = "2026-11-20T12:00:00.000000Z"
    system.tick()
    assert shown(system, "train-2")["state"] == "waiting"


def test_a_newer_run_takes_the_place_of_one_that_waits_and_its_question_is_gone(store: database.Database) -> None:
    system = approvals.System(store, GROUPED.replace("POLICY", "cancel"))
    start(system)
    second = start(system)
    first = shown(system, "train-1")
    assert (first["state"], first["cause"], first["steps"][0]["approval"]) == ("cancelled", "superseded by train-2", None)
    assert (second["state"], second["waits_for"]) == ("waiting", None)
    assert "the run is cancelled" in refused(system.runs.post("/runs/train-1/approve"), 409)
    assert system.engine.cancelled == []


def test_a_newer_run_takes_the_place_of_one_that_waits_between_two_parts_at_once(store: database.Database) -> None:
    system = approvals.System(
        store, approvals.FORKED.replace("inputs:\n  - {name: code, type: codeset}\n", "concurrency: {policy: cancel}\n")
    )
    run_id = start(system)["id"]
    for step in ("report", "prepare"):
        system.see(run_id, step, "succeeded")
    system.see(run_id, None, "succeeded")
    assert shown(system, "train-1")["state"] == "waiting"
    second = start(system)
    assert shown(system, "train-1")["state"] == "cancelled"
    # The engine has nothing of the older one, so there is nothing to wait for.
    assert [part.id for part in system.engine.plans] == [run_id, second["id"]]


def test_the_sweep_asks_the_engine_nothing_about_runs_that_only_wait(store: database.Database) -> None:
    system, run_id = approvals.waiting(store)
    system.tick()
    assert system.engine.observed == []
    system.answer("approve")
    system.deliver()
    system.tick()
    assert system.engine.observed == [f"{run_id}.2"]


def test_a_lost_end_of_a_step_is_asked_for_also_when_its_part_is_over(store: database.Database) -> None:
    system = approvals.System(store, approvals.GATED)
    run_id = system.start()["id"]
    system.see(run_id, None, "succeeded")
    system.tick()
    assert system.engine.observed == [run_id]


class Slow(approvals.Engine):
    """Refuses what it gets, when something else has happened."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        self.meanwhile()
        super().submit(plan, secrets)


class SlowSystem(approvals.System):
    engine: Slow

    def make_engine(self) -> approvals.Engine:
        return Slow()


def test_a_run_that_was_cancelled_while_it_was_refused_ends_once(store: database.Database) -> None:
    system = SlowSystem(store, approvals.GATED)
    requested = events.event(events.RunCancelRequested(run="train-1", reason="wrong data"), "2026-11-21T12:00:00.000000Z")

    def cancel() -> None:
        system.engine.meanwhile = lambda: None
        system.hand(system.dispatcher, requested)

    system.engine.refusal, system.engine.meanwhile = "no such image", cancel
    system.start()
    system.deliver()
    assert (system.run()["state"], system.run()["cause"]) == ("cancelled", "wrong data")
    assert len([event for event in system.ledger if event.type == events.RunFinished.TYPE]) == 1
