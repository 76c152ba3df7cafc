"""The cache of steps across creation and tracking of runs: keys come with the end of steps, in any order of reports."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from functions.run_tracker import app as run_tracker_app
from functions.run_tracker import deps as run_tracker_deps
from fuseml.domain import events
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton.events import STEP_LABEL
from fuseml.store import archive, codesets, runs
from tests import event_keys
from tests.component import triggering

WORKFLOW = """
name: train
inputs:
  - name: alpha
    default: "1"
outputs:
  - name: model
steps:
  - name: builder
    image: builder:1
    cache: true
    outputs: [{name: image}]
  - name: trainer
    image: trainer:1
    cache: true
    inputs:
      - {name: image, value: "{{ steps.builder.outputs.image }}"}
      - {name: alpha, value: "{{ inputs.alpha }}"}
    outputs: [{name: model}]
"""


class World(triggering.World):
    """Also with `run_tracker`, to which an engine reports."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.functions["run_tracker"] = run_tracker_app.create_app(
            run_tracker_deps.Deps(store=self.store, publisher=self, signer=event_keys.SIGNER, engine=self.engine)
        )
        self.workflow(WORKFLOW)

    def start(self, **more: object) -> dict[str, Any]:
        response = self.functions["runs"].test_client().post("/runs", json={"workflow": "train", "project": "p", **more})
        assert response.status_code == 202, response.text
        self.settle()
        return dict(self.get(f"/runs?request={response.get_json()['request']}")[0])

    def succeed(self, name: str, step: str, **outputs: str) -> None:
        """The engine reports that a step has succeeded."""
        with self.store.read() as session:
            run_id = runs.get(session, name).id
        labels = {RUN_LABEL: run_id, STEP_LABEL: step}
        status = {
            "conditions": [{"type": "Succeeded", "status": "True"}],
            "taskResults": [{"name": key, "value": value} for key, value in outputs.items()],
        }
        data = {"taskRun": {"metadata": {"labels": labels}, "status": status}}
        report = events.Event(f"{events.TEKTON_PREFIX}taskrun.successful.v1", "/engine", f"{name}/{step}", None, triggering.NOON, data)
        self.deliver_to("run_tracker", report)

    def executed(self, *steps: str) -> dict[str, Any]:
        """A run whose steps succeed, with reports in this order."""
        run = self.start()
        outputs = {"builder": {"image": "trainer:1"}, "trainer": {"model": "models:/m/1"}}
        for step in steps:
            self.succeed(run["name"], step, **outputs[step])
        return run


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


def summary(run: dict[str, Any]) -> list[tuple[str, str, str | None, str | None]]:
    return [(step["name"], step["state"], step["reused_from"], step["not_reused"]) for step in run["steps"]]


@pytest.mark.parametrize("order", [("builder", "trainer"), ("trainer", "builder")])
def test_an_unchanged_run_finishes_without_an_engine(world: World, order: tuple[str, str]) -> None:
    first = world.executed(*order)
    submitted = list(world.engine.submitted)

    second = world.start()

    assert world.engine.submitted == submitted
    assert (second["state"], second["outputs"]) == ("succeeded", {"model": "models:/m/1"})
    assert summary(second) == [("builder", "succeeded", first["name"], None), ("trainer", "succeeded", first["name"], None)]
    # A third run names the run that executed the steps, not the one that reused them.
    assert [origin for _, _, origin, _ in summary(world.start())] == [first["name"]] * 2
    log = world.functions["runs"].test_client().get(f"/runs/{second['name']}/logs/builder")
    assert log.status_code == 200


def test_a_value_added_to_a_matrix_leaves_the_other_combinations_reused(world: World) -> None:
    document = """
name: train
steps:
  - name: fit
    image: trainer:1
    cache: true
    matrix:
      values: {alpha: ALPHAS}
      best: {metric: rmse, goal: min}
    args: ["{{ matrix.alpha }}"]
    outputs: [{name: metrics}]
"""

    def start(alphas: str) -> dict[str, Any]:
        response = world.functions["workflows"].test_client().put("/workflows/train", data=document.replace("ALPHAS", alphas))
        assert response.status_code == 200, response.text
        return world.start()

    first = start("[1, 3]")
    for step in ("fit-1", "fit-2"):
        world.succeed(first["name"], step, metrics="{}")
    world.succeed(first["name"], "fit", metrics="{}", best="fit-1")

    second = start("[1, 2, 3]")
    assert [(name, origin) for name, _, origin, _ in summary(second)] == [
        ("fit-1", first["name"]),
        ("fit-2", None),
        ("fit-3", first["name"]),
        ("fit", None),
    ]
    log = second["steps"][2]["log"]
    assert log == f"/runs/{first['name']}/logs/fit-2"
    client = world.functions["runs"].test_client()
    assert client.get(f"/runs/{second['name']}/logs/fit-3").status_code == 200

    with world.store.write() as session:
        runs.get(session, second["name"]).state = "failed"
    assert client.post(f"/runs/{second['name']}/resume").status_code == 202
    world.settle()
    assert [(step["name"], step["log"]) for step in world.get("/runs/train-3")["steps"]] == [
        ("fit-1", f"/runs/{first['name']}/logs/fit-1"),
        ("fit-2", "/runs/train-3/logs/fit-2"),
        ("fit-3", log),
        ("fit", "/runs/train-3/logs/fit"),
    ]
    assert [origin for _, _, origin, _ in summary(start("[1, 3]"))] == [first["name"]] * 3


def test_a_reused_step_has_no_log_of_its_own_to_archive(world: World) -> None:
    first = world.executed("builder")
    second = world.start(inputs={"alpha": "2"})
    assert [step["reused_from"] for step in second["steps"]] == [first["name"], None]
    with world.store.read() as session:
        waiting = [(row.name, step.name) for row, step in archive.unarchived(session, 9)]
        assert waiting == [(first["name"], "builder")]


def test_a_step_is_found_once_the_steps_that_it_reads_are_reported(world: World) -> None:
    first = world.executed("trainer")
    assert summary(world.start())[1] == ("trainer", "queued", None, "it needs the outputs of step builder, which runs")
    world.succeed(first["name"], "builder", image="trainer:1")
    assert summary(world.start(inputs={"alpha": "2"})) == [
        ("builder", "succeeded", first["name"], None),
        ("trainer", "queued", None, f"changed since {first['name']}: variable FUSEML_ALPHA"),
    ]


def test_another_project_reuses_nothing(world: World) -> None:
    world.executed("builder", "trainer")
    with world.store.write() as session:
        codesets.create_project(session, "q", "", triggering.NOON)
    assert {reason for *_, reason in summary(world.start(project="q"))[:1]} == {"no cached execution of this step exists"}


def test_a_step_that_did_not_write_its_output_is_executed_again(world: World) -> None:
    first = world.start()
    world.succeed(first["name"], "builder")
    assert summary(world.start())[0] == ("builder", "queued", None, "no cached execution of this step exists")


def test_a_schedule_reuses_steps_too(world: World) -> None:
    def reached(due: str) -> dict[str, Any]:
        world.deliver_to("dispatcher", events.event(events.ScheduleReached(workflow="train", due=due), triggering.NOON))
        return dict(world.get("/runs?workflow=train&limit=1")[0])

    first = reached("2026-11-22T03:00:00Z")
    world.succeed(first["name"], "builder", image="trainer:1")
    assert summary(reached("2026-11-23T03:00:00Z"))[0] == ("builder", "succeeded", first["name"], None)
