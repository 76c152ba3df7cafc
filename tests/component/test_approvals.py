"""Runs with approvals, through the real functions over one database: request, decision, submission by execution, and repair by the sweep."""

from __future__ import annotations

import re

import pytest

from fuseml.domain import events, plans, times
from fuseml.store import database, runs
from tests.component.approving import FORKED, GATED, System, waiting
from tests.component.requesting import refused


@pytest.fixture
def store(sqlite_store: database.Database) -> database.Database:
    return sqlite_store


def test_steps_without_an_approval_are_submitted_at_once_and_the_others_when_approved(store: database.Database) -> None:
    system, run_id = waiting(store)
    [first] = system.engine.plans
    assert (first.id, [step.name for step in first.steps], first.outputs) == (run_id, ["prepare"], {})
    pending = system.step("fit")["approval"]
    assert (pending["message"], pending["decision"], pending["by"]) == ("really fit?", None, None)
    assert times.between(pending["asked"], pending["deadline"]) == 3_600
    [requested] = system.published(events.RunApprovalRequested)
    assert (requested["step"], requested["message"], requested["deadline"]) == ("fit", "really fit?", pending["deadline"])
    assert [item["name"] for item in system.runs.get("/runs?state=waiting").get_json()] == ["train-1"]

    run = system.decide("approve", comment="looks good")
    assert next(step for step in run["steps"] if step["name"] == "fit")["approval"]["decision"] == "approved"
    system.deliver()

    assert system.states() == ("running", {"prepare": "succeeded", "fit": "waiting"})
    second = system.engine.plans[1]
    assert (second.id, [step.name for step in second.steps], second.steps[0].approval) == (f"{run_id}.2", ["fit"], None)
    read = {variable.name: variable.value for variable in second.steps[0].variables}
    assert read["FUSEML_DATA"] == plans.text("d1")
    assert read["FUSEML_ENV_RUN"] == plans.text("train-1")
    # The secret of the first execution is not submitted with the second.
    assert system.engine.secrets == [{"minio/store/default/AWS_SECRET_ACCESS_KEY": "canary"}, {}]

    system.report(second.id, "fit", "running")
    system.report(second.id, "fit", "succeeded", model="models:/m/1")
    system.report(second.id, None, "succeeded", model="models:/m/1")
    # Late and repeated reports of the first execution change nothing.
    system.report(run_id, None, "failed")
    system.report(run_id, "fit", "failed")

    run = system.run()
    assert (run["state"], run["outputs"]) == ("succeeded", {"model": "models:/m/1"})
    decided = system.step("fit")["approval"]
    assert (decided["decision"], decided["by"], decided["comment"]) == ("approved", "anonymous", "looks good")
    assert pending["asked"] < decided["decided"] < run["finished"]
    assert system.published(events.RunApproved) == [{"run": "train-1", "step": "fit", "by": "anonymous", "comment": "looks good"}]
    assert [data["state"] for data in system.published(events.RunFinished)] == ["succeeded"]
    assert [data["step"] for data in system.published(events.RunStepFinished)] == ["prepare", "fit"]
    assert len(system.engine.plans) == 2
    assert [system.runs.get(f"/runs/train-1/logs/{step}").text for step in ("prepare", "fit")] == [
        f"prepare of {run_id}\n",
        f"fit of {run_id}.2\n",
    ]


def test_a_rejection_fails_the_step_and_the_run(store: database.Database) -> None:
    system, _ = waiting(store)
    system.decide("reject", comment="too slow")
    system.deliver()
    run = system.run()
    assert (run["state"], run["cause"]) == ("failed", "step 'fit' failed: rejected by anonymous: too slow")
    assert (system.step("fit")["state"], system.step("fit")["cause"]) == ("failed", "rejected by anonymous: too slow")
    assert len(system.engine.plans) == 1
    [rejection] = system.published(events.RunRejected)
    assert rejection["cause"] == "rejected by anonymous: too slow"
    assert [data["state"] for data in system.published(events.RunFinished)] == ["failed"]


def test_a_rejection_cancels_the_steps_that_run_beside_it(store: database.Database) -> None:
    system = System(store, FORKED)
    run_id = system.start()["id"]
    system.report(run_id, "report", "running")
    system.report(run_id, "prepare", "succeeded", data="d")
    assert system.states()[0] == "running"
    assert "several steps wait for an approval: fit, tune" in system.decide("approve", 400)["message"]
    system.decide("approve", step="fit")
    system.deliver()
    assert len(system.engine.plans) == 1, "the first execution has not ended"
    system.decide("reject", step="tune")
    system.deliver()

    assert set(system.engine.cancelled) == {(run_id, "step 'tune' failed: rejected by anonymous")}
    assert system.states() == (
        "running",
        {"prepare": "succeeded", "report": "running", "fit": "skipped", "tune": "failed", "serve": "skipped"},
    )
    system.report(run_id, "report", "cancelled")
    system.report(run_id, None, "cancelled")
    assert (system.run()["state"], system.run()["cause"]) == ("failed", "step 'tune' failed: rejected by anonymous")


def test_two_approvals_give_two_executions_one_after_the_other(store: database.Database) -> None:
    system = System(store, FORKED)
    run_id = system.start()["id"]
    for step in ("report", "prepare"):
        system.report(run_id, step, "succeeded")
    system.report(run_id, None, "succeeded")
    system.decide("approve", step="fit")
    system.deliver()
    assert system.states()[0] == "running"
    system.decide("approve", step="tune")
    system.deliver()
    assert [[step.name for step in plan.steps] for plan in system.engine.plans] == [["prepare", "report"], ["fit"]]

    # The end of the execution is reported before that of its step; the next execution waits for the step's outputs.
    system.report(f"{run_id}.2", None, "succeeded")
    assert len(system.engine.plans) == 2
    system.report(f"{run_id}.2", "fit", "succeeded")

    assert [[step.name for step in plan.steps] for plan in system.engine.plans][2:] == [["tune", "serve"]]
    assert [data["request"] for data in system.published(events.RunRequested) if data["action"] == "submit"] == ["train-1.3"]
    for step in ("tune", "serve"):
        system.report(f"{run_id}.3", step, "succeeded")
    system.report(f"{run_id}.3", None, "succeeded")
    assert system.states()[0] == "succeeded"


def test_an_approval_expires_at_a_tick_once(store: database.Database) -> None:
    system, _ = waiting(store)
    system.tick()
    assert system.states()[0] == "waiting"
    system.overdue("fit")
    assert "the approval expired at 2026-11-20T13:00" in system.decide("approve", 409)["message"]
    system.tick()
    system.tick()
    assert (system.run()["state"], system.step("fit")["cause"]) == ("failed", "not approved within 1h")
    [rejection] = system.published(events.RunRejected)
    assert (rejection["by"], rejection["cause"]) == (None, "not approved within 1h")
    assert len(system.engine.plans) == 1


def test_a_late_or_repeated_decision_is_refused_with_the_present_state(store: database.Database) -> None:
    system, run_id = waiting(store)
    assert refused(system.runs.post("/runs/train-9/approve"), 404)
    assert "run train-1: step 'prepare' cannot be approved: it is succeeded" in system.decide("approve", 409, step="prepare")["message"]
    assert "has no step 'fot'" in system.decide("approve", 404, step="fot")["message"]
    assert system.runs.post("/runs/train-1/approve", json={"stop": "fit"}).status_code == 400
    system.decide("approve")
    assert re.search(
        r"step 'fit' cannot be rejected: it was approved by anonymous at 20", system.decide("reject", 409, step="fit")["message"]
    )
    assert re.search("the run is waiting, and no step of it waits .* was approved by", system.decide("approve", 409)["message"])
    system.deliver()
    system.report(f"{run_id}.2", "fit", "succeeded")
    system.report(f"{run_id}.2", None, "succeeded")
    assert "the run is succeeded, and no step of it waits" in system.decide("approve", 409)["message"]


def test_a_waiting_run_is_cancelled_at_once(store: database.Database) -> None:
    system, _ = waiting(store)
    assert system.runs.post("/runs/train-1/cancel?reason=wrong+data").status_code == 202
    system.deliver()
    assert (system.run()["cause"], system.states()) == ("wrong data", ("cancelled", {"prepare": "succeeded", "fit": "skipped"}))
    assert system.step("fit")["approval"] is None
    assert "the run is cancelled, and no step" in system.decide("approve", 409)["message"]
    assert system.engine.cancelled == [], "no execution of the run is in the engine"


def test_a_cancellation_that_is_too_late_for_one_execution_prevents_the_next(store: database.Database) -> None:
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.report(run_id, "prepare", "succeeded", data="d")
    system.runs.post("/runs/train-1/cancel?reason=wrong+data")
    system.deliver()
    assert "the run is being cancelled: wrong data" in system.decide("approve", 409)["message"]
    system.report(run_id, None, "succeeded")
    assert (system.run()["cause"], system.states()) == ("wrong data", ("cancelled", {"prepare": "succeeded", "fit": "skipped"}))
    assert len(system.engine.plans) == 1


def test_the_sweep_submits_the_execution_of_a_dispatcher_that_died(store: database.Database) -> None:
    system, run_id = waiting(store)
    system.engine.is_away = True
    system.decide("approve")
    [approved] = [event for event in system.events if event.type == events.RunApproved.TYPE]
    system.events.clear()
    # The broker gives up in the end; the recorded decision is not lost.
    system.deliver_to(system.dispatcher, approved, status=(503,))
    assert system.states()[0] == "running"
    assert len(system.engine.plans) == 1
    system.engine.is_away = False
    with store.write() as session:
        runs.get(session, "train-1").created = "2026-11-20T12:00:00.000000Z"
    system.tick()
    system.tick()
    assert [plan.id for plan in system.engine.plans] == [run_id, f"{run_id}.2"]
    # The sweep observes the present execution.
    assert system.engine.observed[-1] == f"{run_id}.2"


def test_an_execution_that_the_engine_refuses_ends_the_run(store: database.Database) -> None:
    system, _ = waiting(store)
    system.engine.refusal = "no such image"
    system.decide("approve")
    system.deliver()
    assert (system.run()["cause"], system.states()) == ("no such image", ("failed", {"prepare": "succeeded", "fit": "skipped"}))


def test_an_output_that_the_approved_step_reads_and_that_was_not_written_ends_the_run(store: database.Database) -> None:
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.report(run_id, "prepare", "succeeded")
    system.report(run_id, None, "succeeded")
    system.decide("approve")
    system.deliver()
    assert (system.run()["state"], system.run()["cause"]) == ("failed", "step 'prepare' finished without writing its output 'data'")


def test_a_run_that_begins_with_an_approval_submits_nothing_before_the_decision(store: database.Database) -> None:
    system = System(store, GATED.replace("  - name: prepare\n", "  - name: prepare\n    approval: {message: begin?}\n"))
    run_id = system.start()["id"]
    assert (system.states(), system.engine.plans) == (("waiting", {"prepare": "waiting", "fit": "queued"}), [])
    assert system.runs.get("/runs/train-1/logs/prepare").headers["Fuseml-Log-Complete"] == "false"
    system.tick()
    assert system.engine.plans == []
    system.decide("approve")
    system.deliver()
    assert [(plan.id, [step.name for step in plan.steps]) for plan in system.engine.plans] == [(run_id, ["prepare"])]
    assert system.states()[0] == "running"


def test_a_repeated_run_requests_its_approvals_again(store: database.Database) -> None:
    system, _ = waiting(store)
    system.decide("reject")
    system.deliver()

    resumed = system.request("/runs/train-1/resume")
    assert (resumed["state"], [(step["state"], step["reused_from"]) for step in resumed["steps"]]) == (
        "waiting",
        [("succeeded", "train-1"), ("waiting", None)],
    )
    for path, body in (("rerun", {"locked": True}), ("rerun", {}), ("rerun", {"until": "fit"})):
        again = system.request(f"/runs/train-1/{path}", body)
        system.report(again["id"], "prepare", "succeeded", data="d2")
        system.report(again["id"], None, "succeeded")
        run = system.runs.get(f"/runs/{again['name']}").get_json()
        assert (run["state"], run["steps"][1]["approval"]["decision"]) == ("waiting", None)
    alone = system.request("/runs/train-1/rerun", {"only": "fit"})
    assert (alone["state"], [step["state"] for step in alone["steps"]]) == ("waiting", ["succeeded", "waiting"])
    until = system.request("/runs/train-1/rerun", {"until": "prepare"})
    assert (until["state"], len(until["steps"])) == ("queued", 1)
