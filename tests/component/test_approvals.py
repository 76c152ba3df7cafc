"""Runs that wait for people, through the real functions over one database: asked, answered, submitted part by part, and made good."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import app as tracker_app
from functions.run_tracker import deps as tracker_deps
from fuseml.domain import errors, events, plans, times
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton.events import STEP_LABEL
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import clock, cloudevents, secrets
from fuseml.store import database, runs
from tests.component import test_runs_requests as requests_tests
from tests.component.test_runs_requests import refused

GATED = requests_tests.DOCUMENT.replace("  - name: fit\n", "  - name: fit\n    approval: {message: really fit?, expires: 1h}\n")
FORKED = """
name: train
inputs:
  - {name: code, type: codeset}
steps:
  - {name: prepare, image: "shell:1", outputs: [{name: data}]}
  - {name: report, image: "shell:1"}
  - name: fit
    image: shell:1
    needs: [prepare]
    approval: {message: "fit?"}
  - name: tune
    image: shell:1
    needs: [prepare]
    approval: {message: "tune?"}
  - {name: serve, image: "shell:1", needs: [fit, tune]}
"""


class Engine(requests_tests.Engine):
    """Remembers what it was asked to stop and to tell, too."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[tuple[str, str]] = []
        self.observed: list[str] = []
        self.is_away = False

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        if self.is_away:
            raise errors.TemporaryError("the engine is away")
        super().submit(plan, secrets)

    def cancel(self, run_id: str, reason: str) -> None:
        self.cancelled.append((run_id, reason))

    def observe(self, run_id: str) -> Sequence[events.Event]:
        self.observed.append(run_id)
        return []


class System(requests_tests.System):
    """`run_tracker` and `housekeeper` as well. `deliver` hands everything that was published to whom it concerns."""

    def __init__(self, store: database.Database, document: str) -> None:
        folder = pathlib.Path(store.url.removeprefix("sqlite:///")).parent
        super().__init__(store, folder)
        self.engine: Engine
        self.tracker = tracker_app.create_app(tracker_deps.Deps(store=store, publisher=self)).test_client()
        self.housekeeper = housekeeper_app.create_app(
            housekeeper_deps.Deps(
                store=store,
                publisher=self,
                git=EmbeddedGitHost(folder / "git", "http://127.0.0.1:1/git"),
                engine=self.engine,
                keyring=secrets.Keyring([secrets.new_key()]),
                check=lambda *_: (),  # type: ignore[arg-type]
            )
        ).test_client()
        self.ledger: list[events.Event] = []
        self.ticks = 0
        assert self.workflows.put("/workflows/train", data=document).status_code == 200
        self.events.clear()

    def make_engine(self) -> Engine:
        return Engine()

    def deliver(self, times: int = 2) -> None:
        """Everything is delivered twice, because brokers do."""
        taken = (events.RunRequested, events.RunApproved, events.RunRejected, events.RunCancelRequested)
        while self.events:
            event = self.events.pop(0)
            self.ledger.append(event)
            if event.type in {payload.TYPE for payload in taken}:
                for _ in range(times):
                    self.hand(self.dispatcher, event)

    def hand(self, function: Any, event: events.Event, status: tuple[int, ...] = (200, 204)) -> None:
        headers, body = cloudevents.encode(event)
        answer = function.post("/", headers=headers, data=body)
        assert answer.status_code in status, answer.text
        if answer.status_code == 200:
            self.publish(cloudevents.decode(dict(answer.headers), answer.data))

    def see(self, execution: str, step: str | None, state: str, *, skipped: Sequence[str] = (), **outputs: str) -> None:
        """The engine tells something, twice; what follows is delivered."""
        status: dict[str, Any] = {"conditions": [{"type": "Succeeded", "status": _STATUS[state], "reason": _REASON.get(state, "")}]}
        results = [{"name": name, "value": value} for name, value in outputs.items()]
        status |= {"startTime": clock.now(), "taskResults" if step else "pipelineResults": results}
        if skipped:
            status["skippedTasks"] = [{"name": name} for name in skipped]
        labels = {RUN_LABEL: execution} | ({STEP_LABEL: step} if step else {})
        kind = "taskRun" if step else "pipelineRun"
        data = {kind: {"metadata": {"labels": labels}, "status": status}}
        event = events.Event(
            f"{events.TEKTON_PREFIX}{kind.lower()}.x.v1", "/tekton", f"{execution}:{step}:{state}", None, clock.now(), data
        )
        for copy in (event, dataclasses.replace(event, id=f"{event.id}:again")):
            self.hand(self.tracker, copy)
        self.deliver()

    def tick(self) -> None:
        self.ticks += 1
        self.hand(self.housekeeper, events.Event(events.TICK, "/tick", str(self.ticks), None, clock.now(), {}))
        self.deliver()

    def run(self) -> dict[str, Any]:
        return dict(self.runs.get("/runs/train-1").json)

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.run()["steps"] if step["name"] == name)

    def states(self) -> tuple[str, dict[str, str]]:
        found = self.run()
        return found["state"], {step["name"]: step["state"] for step in found["steps"]}

    def told(self, payload: type[events.Payload]) -> list[Mapping[str, Any]]:
        return [event.data for event in {event.id: event for event in self.ledger}.values() if event.type == payload.TYPE]

    def answer(self, word: str, status: int = 202, **body: str) -> Any:
        answer = self.runs.post(f"/runs/train-1/{word}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json

    def overdue(self, step: str) -> None:
        with self.store.write() as session:
            row = runs.get(session, "train-1")
            found = next(item for item in runs.steps(session, [row.id]) if item.name == step)
            found.approval = {**(found.approval or {}), "asked": "2026-11-20T12:00:00.000000Z", "deadline": "2026-11-20T13:00:00.000000Z"}


_STATUS = {"running": "Unknown", "succeeded": "True", "failed": "False", "cancelled": "False"}
_REASON = {"running": "Running", "cancelled": "Cancelled"}


@pytest.fixture
def store(sqlite_store: database.Database) -> database.Database:
    return sqlite_store


def waiting(store: database.Database) -> tuple[System, str]:
    """A run whose step `fit` waits, and its id."""
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.see(run_id, "prepare", "succeeded", data="d1")
    system.see(run_id, None, "succeeded")
    assert system.states() == ("waiting", {"prepare": "succeeded", "fit": "waiting"})
    return system, run_id


def test_the_engine_gets_what_needs_no_approval_and_the_rest_when_it_was_given(store: database.Database) -> None:
    system, run_id = waiting(store)
    [first] = system.engine.plans
    assert (first.id, [step.name for step in first.steps], first.outputs) == (run_id, ["prepare"], {})
    asked = system.step("fit")["approval"]
    assert (asked["message"], asked["decision"], asked["by"]) == ("really fit?", None, None)
    assert times.between(asked["asked"], asked["deadline"]) == 3_600
    [requested] = system.told(events.RunApprovalRequested)
    assert (requested["step"], requested["message"], requested["deadline"]) == ("fit", "really fit?", asked["deadline"])
    assert [item["name"] for item in system.runs.get("/runs?state=waiting").json] == ["train-1"]

    shown = system.answer("approve", comment="looks good")
    assert next(step for step in shown["steps"] if step["name"] == "fit")["approval"]["decision"] == "approved"
    system.deliver()

    assert system.states() == ("running", {"prepare": "succeeded", "fit": "waiting"})
    second = system.engine.plans[1]
    assert (second.id, [step.name for step in second.steps], second.steps[0].approval) == (f"{run_id}.2", ["fit"], None)
    read = {variable.name: variable.value for variable in second.steps[0].variables}
    assert read["FUSEML_DATA"] == plans.text("d1")
    assert read["FUSEML_ENV_RUN"] == plans.text("train-1")
    # The secret of the first part is not handed over with the second.
    assert system.engine.secrets == [{"minio/store/default/AWS_SECRET_ACCESS_KEY": "canary"}, {}]

    system.see(second.id, "fit", "running")
    system.see(second.id, "fit", "succeeded", model="models:/m/1")
    system.see(second.id, None, "succeeded", model="models:/m/1")
    # Late and repeated news of the first part disturb nothing.
    system.see(run_id, None, "failed")
    system.see(run_id, "fit", "failed")

    done = system.run()
    assert (done["state"], done["outputs"]) == ("succeeded", {"model": "models:/m/1"})
    answered = system.step("fit")["approval"]
    assert (answered["decision"], answered["by"], answered["comment"]) == ("approved", "anonymous", "looks good")
    assert asked["asked"] < answered["decided"] < done["finished"]
    assert system.told(events.RunApproved) == [{"run": "train-1", "step": "fit", "by": "anonymous", "comment": "looks good"}]
    assert [data["state"] for data in system.told(events.RunFinished)] == ["succeeded"]
    assert [data["step"] for data in system.told(events.RunStepFinished)] == ["prepare", "fit"]
    assert len(system.engine.plans) == 2
    assert [system.runs.get(f"/runs/train-1/logs/{step}").text for step in ("prepare", "fit")] == [
        f"prepare of {run_id}\n",
        f"fit of {run_id}.2\n",
    ]


def test_a_rejection_fails_the_step_and_the_run(store: database.Database) -> None:
    system, _ = waiting(store)
    system.answer("reject", comment="too slow")
    system.deliver()
    done = system.run()
    assert (done["state"], done["cause"]) == ("failed", "step 'fit' failed: rejected by anonymous: too slow")
    assert (system.step("fit")["state"], system.step("fit")["cause"]) == ("failed", "rejected by anonymous: too slow")
    assert len(system.engine.plans) == 1
    [told] = system.told(events.RunRejected)
    assert told["cause"] == "rejected by anonymous: too slow"
    assert [data["state"] for data in system.told(events.RunFinished)] == ["failed"]


def test_a_rejection_stops_what_runs_beside_it(store: database.Database) -> None:
    system = System(store, FORKED)
    run_id = system.start()["id"]
    system.see(run_id, "report", "running")
    system.see(run_id, "prepare", "succeeded", data="d")
    assert system.states()[0] == "running"
    assert "several steps wait for an approval: fit, tune" in system.answer("approve", 400)["message"]
    system.answer("approve", step="fit")
    system.deliver()
    assert len(system.engine.plans) == 1, "the report is still being written"
    system.answer("reject", step="tune")
    system.deliver()

    assert set(system.engine.cancelled) == {(run_id, "step 'tune' failed: rejected by anonymous")}
    assert system.states() == (
        "running",
        {"prepare": "succeeded", "report": "running", "fit": "skipped", "tune": "failed", "serve": "skipped"},
    )
    system.see(run_id, "report", "cancelled")
    system.see(run_id, None, "cancelled")
    assert (system.run()["state"], system.run()["cause"]) == ("failed", "step 'tune' failed: rejected by anonymous")


def test_two_approvals_are_two_parts_one_after_the_other(store: database.Database) -> None:
    system = System(store, FORKED)
    run_id = system.start()["id"]
    for step in ("report", "prepare"):
        system.see(run_id, step, "succeeded")
    system.see(run_id, None, "succeeded")
    system.answer("approve", step="fit")
    system.deliver()
    assert system.states()[0] == "running"
    system.answer("approve", step="tune")
    system.deliver()
    assert [[step.name for step in part.steps] for part in system.engine.plans] == [["prepare", "report"], ["fit"]]

    # The end of the part comes before the news of its step; what it has put out is waited for.
    system.see(f"{run_id}.2", None, "succeeded")
    assert len(system.engine.plans) == 2
    system.see(f"{run_id}.2", "fit", "succeeded")

    assert [[step.name for step in part.steps] for part in system.engine.plans][2:] == [["tune", "serve"]]
    assert [data["request"] for data in system.told(events.RunRequested) if data["action"] == "submit"] == ["train-1.3"]
    for step in ("tune", "serve"):
        system.see(f"{run_id}.3", step, "succeeded")
    system.see(f"{run_id}.3", None, "succeeded")
    assert system.states()[0] == "succeeded"


def test_what_nobody_approves_in_time_fails_at_a_tick_and_once(store: database.Database) -> None:
    system, _ = waiting(store)
    system.tick()
    assert system.states()[0] == "waiting"
    system.overdue("fit")
    assert "the time to answer was over at 2026-11-20T13:00" in system.answer("approve", 409)["message"]
    system.tick()
    system.tick()
    assert (system.run()["state"], system.step("fit")["cause"]) == ("failed", "not approved within 1h")
    [told] = system.told(events.RunRejected)
    assert (told["by"], told["cause"]) == (None, "not approved within 1h")
    assert len(system.engine.plans) == 1


def test_an_answer_that_comes_too_late_or_twice_is_told_how_things_stand(store: database.Database) -> None:
    system, run_id = waiting(store)
    assert refused(system.runs.post("/runs/train-9/approve"), 404)
    assert "run train-1: step 'prepare' cannot be approved: it is succeeded" in system.answer("approve", 409, step="prepare")["message"]
    assert "has no step 'fot'" in system.answer("approve", 404, step="fot")["message"]
    assert system.runs.post("/runs/train-1/approve", json={"stop": "fit"}).status_code == 400
    system.answer("approve")
    assert re.search(
        r"step 'fit' cannot be rejected: it was approved by anonymous at 20", system.answer("reject", 409, step="fit")["message"]
    )
    assert re.search("the run is waiting, and no step of it waits .* was approved by", system.answer("approve", 409)["message"])
    system.deliver()
    system.see(f"{run_id}.2", "fit", "succeeded")
    system.see(f"{run_id}.2", None, "succeeded")
    assert "the run is succeeded, and no step of it waits" in system.answer("approve", 409)["message"]


def test_a_waiting_run_is_cancelled_at_once(store: database.Database) -> None:
    system, _ = waiting(store)
    assert system.runs.post("/runs/train-1/cancel?reason=wrong+data").status_code == 202
    system.deliver()
    assert (system.run()["cause"], system.states()) == ("wrong data", ("cancelled", {"prepare": "succeeded", "fit": "skipped"}))
    assert system.step("fit")["approval"] is None
    assert "the run is cancelled, and no step" in system.answer("approve", 409)["message"]
    assert system.engine.cancelled == [], "it has nothing of the run any more"


def test_a_cancel_that_comes_too_late_for_one_part_stops_the_next(store: database.Database) -> None:
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.see(run_id, "prepare", "succeeded", data="d")
    system.runs.post("/runs/train-1/cancel?reason=wrong+data")
    system.deliver()
    assert "the run is being cancelled: wrong data" in system.answer("approve", 409)["message"]
    system.see(run_id, None, "succeeded")
    assert (system.run()["cause"], system.states()) == ("wrong data", ("cancelled", {"prepare": "succeeded", "fit": "skipped"}))
    assert len(system.engine.plans) == 1


def test_a_dispatcher_that_dies_before_it_submits_is_made_good(store: database.Database) -> None:
    system, run_id = waiting(store)
    system.engine.is_away = True
    system.answer("approve")
    [approved] = [event for event in system.events if event.type == events.RunApproved.TYPE]
    system.events.clear()
    # The broker gives up in the end; what is on record is not lost.
    system.hand(system.dispatcher, approved, status=(503,))
    assert system.states()[0] == "running"
    assert len(system.engine.plans) == 1
    system.engine.is_away = False
    with store.write() as session:
        runs.get(session, "train-1").created = "2026-11-20T12:00:00.000000Z"
    system.tick()
    system.tick()
    assert [part.id for part in system.engine.plans] == [run_id, f"{run_id}.2"]
    # And it is the present part that the sweep asks the engine about.
    assert system.engine.observed[-1] == f"{run_id}.2"


def test_a_part_that_the_engine_refuses_ends_the_run(store: database.Database) -> None:
    system, _ = waiting(store)
    system.engine.refusal = "no such image"
    system.answer("approve")
    system.deliver()
    assert (system.run()["cause"], system.states()) == ("no such image", ("failed", {"prepare": "succeeded", "fit": "skipped"}))


def test_a_step_that_wrote_nothing_of_what_the_approved_one_reads_ends_the_run(store: database.Database) -> None:
    system = System(store, GATED)
    run_id = system.start()["id"]
    system.see(run_id, "prepare", "succeeded")
    system.see(run_id, None, "succeeded")
    system.answer("approve")
    system.deliver()
    assert (system.run()["state"], system.run()["cause"]) == ("failed", "step 'prepare' finished without writing its output 'data'")


def test_a_run_that_begins_with_a_question_has_nothing_submitted_before_the_answer(store: database.Database) -> None:
    system = System(store, GATED.replace("  - name: prepare\n", "  - name: prepare\n    approval: {message: begin?}\n"))
    run_id = system.start()["id"]
    assert (system.states(), system.engine.plans) == (("waiting", {"prepare": "waiting", "fit": "queued"}), [])
    assert system.runs.get("/runs/train-1/logs/prepare").headers["Fuseml-Log-Complete"] == "false"
    system.tick()
    assert system.engine.plans == []
    system.answer("approve")
    system.deliver()
    assert [(part.id, [step.name for step in part.steps]) for part in system.engine.plans] == [(run_id, ["prepare"])]
    assert system.states()[0] == "running"


def test_who_repeats_a_run_is_asked_again(store: database.Database) -> None:
    system, _ = waiting(store)
    system.answer("reject")
    system.deliver()

    resumed = system.ask("/runs/train-1/resume")
    assert (resumed["state"], [(step["state"], step["reused_from"]) for step in resumed["steps"]]) == (
        "waiting",
        [("succeeded", "train-1"), ("waiting", None)],
    )
    for path, body in (("rerun", {"locked": True}), ("rerun", {}), ("rerun", {"until": "fit"})):
        again = system.ask(f"/runs/train-1/{path}", body)
        system.see(again["id"], "prepare", "succeeded", data="d2")
        system.see(again["id"], None, "succeeded")
        shown = system.runs.get(f"/runs/{again['name']}").json
        assert (shown["state"], shown["steps"][1]["approval"]["decision"]) == ("waiting", None)
    alone = system.ask("/runs/train-1/rerun", {"only": "fit"})
    assert (alone["state"], [step["state"] for step in alone["steps"]]) == ("waiting", ["succeeded", "waiting"])
    until = system.ask("/runs/train-1/rerun", {"until": "prepare"})
    assert (until["state"], len(until["steps"])) == ("queued", 1)
