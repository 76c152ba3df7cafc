"""The end of a run, in every order of deliveries: no open step is left, and no late output is lost."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import app as tracker_app
from functions.run_tracker import deps as tracker_deps
from fuseml.domain import events, plans
from fuseml.domain.runs import FINISHED, State
from fuseml.engines.local import decisions, journal, report
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import clock, secrets
from fuseml.store import runs
from tests import event_keys
from tests.component import test_artifact_triggers, triggering

COMMIT = "a" * 40
ORDERS = list(itertools.permutations(range(4)))


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    """A run of `train` in the engine; `serve` consumes its model. Also with `run_tracker` and `housekeeper`."""
    system = triggering.World(tmp_path)
    common: dict[str, Any] = {"store": system.store, "publisher": system, "signer": event_keys.SIGNER, "engine": system.engine}
    system.functions["run-tracker"] = tracker_app.create_app(tracker_deps.Deps(**common))
    system.functions["housekeeper"] = housekeeper_app.create_app(
        housekeeper_deps.Deps(
            **common,
            git=EmbeddedGitHost(tmp_path / "git", "http://git"),
            keyring=secrets.Keyring([secrets.new_key()]),
            check=lambda *_: (),  # type: ignore[arg-type]
        )
    )
    system.workflow(test_artifact_triggers.document("train", takes="codeset"))
    system.assign("train", "code://p/code")
    system.workflow(test_artifact_triggers.document("serve", "model://*"))
    system.push(COMMIT)
    system.settle()
    yield system
    system.store.close()


def reports_of_train(world: triggering.World, ending: str = decisions.SUCCEEDED) -> list[events.Event]:
    """The reports of the engine on the run of `train`, in their order: two events of the run, two of its step."""
    with world.store.read() as session:
        plan = plans.Plan.model_validate(runs.get(session, "train-1").plan)
    state: State = "succeeded" if ending == decisions.SUCCEEDED else "cancelled"
    outputs = {"model": "models:/m/1"} if state == "succeeded" else {}
    record = journal.RunRecord(
        state=state, created=1.0, started=2.0, finished=5.0, ending=journal.Ending(reason=ending, message="wrong data"), outputs=outputs
    )
    step = journal.StepRecord(
        state=state, attempts=(journal.AttemptRecord(started=3.0, finished=4.0),), finished=4.0, reason=ending, outputs=outputs
    )
    return report.all_events(plan, record, {"step": step})


def deliver(world: triggering.World, reports: Sequence[events.Event]) -> None:
    """Deliver the reports; after each one a finished run has no open step."""
    for event in reports:
        world.deliver_to("run-tracker", event)
        run = world.run("train-1")
        if run["state"] in FINISHED:
            assert [step["state"] for step in run["steps"]] == [run["state"]], event.id


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order_of_events_the_step_ends_and_its_model_starts_the_consuming_run(
    world: triggering.World, order: tuple[int, ...]
) -> None:
    reports = reports_of_train(world)
    assert len(reports) == len(order)
    deliver(world, [reports[index] for index in order])
    world.settle()
    run = world.run("train-1")
    [step] = run["steps"]
    assert (run["state"], run["outputs"], run["settled"]) == ("succeeded", {"model": "models:/m/1"}, True)
    assert (step["state"], step["outputs"], step["attempts"], step["duration"]) == ("succeeded", {"model": "models:/m/1"}, 1, 1.0)
    assert world.states() == {"train-1": "succeeded", "serve-1": "queued"}


@pytest.mark.parametrize("order", ORDERS)
def test_a_cancelled_run_has_no_open_step_in_any_order_of_events(world: triggering.World, order: tuple[int, ...]) -> None:
    reports = reports_of_train(world, decisions.CANCELLED)
    for event in [reports[index] for index in order]:
        world.deliver_to("run-tracker", event)
        run = world.run("train-1")
        if run["state"] == "cancelled":
            assert run["steps"][0]["state"] in ("cancelled", "skipped"), event.id
    world.settle()
    run = world.run("train-1")
    assert [(step["state"], step["finished"]) for step in run["steps"]] == [("cancelled", "1970-01-01T00:00:04.000000Z")]
    assert world.states() == {"train-1": "cancelled"}


def test_the_sweep_recovers_a_lost_end_with_its_outputs(world: triggering.World) -> None:
    reports = reports_of_train(world)
    lost = next(event for event in reports if event.type.endswith("taskrun.successful.v1"))
    deliver(world, [event for event in reports if event is not lost])
    with world.store.write() as session:
        row = runs.get(session, "train-1")
        row.finished = clock.now()  # the engine's clock stands at 1970
    world.settle()
    [step] = world.run("train-1")["steps"]
    assert (step["state"], step["finished"], step["outputs"]) == ("succeeded", row.finished, {})
    assert (world.run("train-1")["settled"], list(world.states())) == (False, ["train-1"])

    world.engine.reports = {row.id: reports}
    world.deliver_to("housekeeper", events.Event(events.TICK, "/tick", "1", None, clock.now(), {}))
    world.settle()
    [step] = world.run("train-1")["steps"]
    assert (step["state"], step["outputs"]) == ("succeeded", {"model": "models:/m/1"})
    assert world.states() == {"train-1": "succeeded", "serve-1": "queued"}

    world.engine.observed.clear()
    world.deliver_to("housekeeper", events.Event(events.TICK, "/tick", "2", None, clock.now(), {}))
    assert row.id not in world.engine.observed, "everything is reported"
