"""Runs of a step with a matrix through the API: their steps, the results, and requests that name the step."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from fuseml.domain import events
from fuseml.domain.plans import combinations
from fuseml.runtime import auth, catalog, secrets
from fuseml.store import artifacts, database, extensions, lineage
from tests import event_keys
from tests.component.requesting import NOON, System, refused

DOCUMENT = """
name: train
inputs:
  - {name: code, type: codeset}
  - {name: alpha, default: 10}
outputs:
  - {name: model}
steps:
  - name: fit
    image: shell:1
    matrix:
      values: {alpha: [0.1, "{{ inputs.alpha }}"], depth: [1, 2]}
      best: {metric: rmse, goal: min}
    inputs:
      - codeset: {name: code}
      - {name: alpha, value: "{{ matrix.alpha }}"}
      - {name: depth, value: "{{ matrix.depth }}"}
    extensions:
      - {name: store, service_resource: s3}
    outputs:
      - {name: model}
      - {name: metrics}
  - name: report
    image: shell:1
    inputs:
      - {name: model, value: "{{ steps.fit.outputs.model }}"}
      - {name: best, value: "{{ steps.fit.outputs.best }}"}
"""
STEPS = ["fit-1", "fit-2", "fit-3", "fit-4", "fit", "report"]


@pytest.fixture
def system(store: database.Database, tmp_path: pathlib.Path) -> System:
    made = System(store, tmp_path)
    assert made.workflows.put("/workflows/train", data=DOCUMENT).status_code == 200
    made.events.clear()
    return made


def written(number: int, rmse: float) -> dict[str, str]:
    return {"model": f"models:/m/{number}", "metrics": json.dumps({"rmse": rmse, "nan": float("nan")})}


def finished(system: System, name: str, state: str = "succeeded", more: Mapping[str, dict[str, str]] | None = None) -> dict[str, Any]:
    """The run after its first three combinations have succeeded."""
    combined = {f"fit-{number}": written(number, rmse) for number, rmse in ((1, 3.5), (2, 2.5), (3, 4.5))}
    system.finish(name, state, **combined, **(more or {}))
    return dict(system.runs.get(f"/runs/{name}").get_json())


def test_the_steps_of_a_run_show_values_metrics_and_the_best(system: System) -> None:
    run = system.start(inputs={"alpha": "7"})
    assert [step["name"] for step in run["steps"]] == STEPS
    assert [(item["step"], item["name"]) for item in run["bindings"]] == [("fit", "store")]
    [plan] = system.engine.plans
    assert [step.name for step in plan.steps] == STEPS
    assert system.engine.secrets == [{"minio/store/default/AWS_SECRET_ACCESS_KEY": "canary"}]

    ranked = {**written(2, 2.5), "best": "fit-2"}
    steps = finished(system, run["name"], more={"fit-4": {"model": "m", "metrics": "[]"}, "fit": ranked, "report": {}})["steps"]
    assert [step["combination"] for step in steps] == [
        *(
            {
                "step": "fit",
                "values": {"alpha": alpha, "depth": depth},
                "metric": "rmse",
                "goal": "min",
                "metrics": metrics,
                "best": name == "fit-2",
            }
            for name, alpha, depth, metrics in (
                ("fit-1", "0.1", "1", {"rmse": 3.5}),
                ("fit-2", "0.1", "2", {"rmse": 2.5}),
                ("fit-3", "7", "1", {"rmse": 4.5}),
                ("fit-4", "7", "2", {}),
            )
        ),
        None,
        None,
    ]
    assert steps[4]["image"] == combinations.RANKER


def test_a_matrix_that_repeats_a_value_of_the_run_is_refused_with_its_path(system: System) -> None:
    response = system.runs.post("/runs", json={"workflow": "train", "project": "p", "codeset": "code", "inputs": {"alpha": "0.1"}})
    assert "steps[0].matrix.values.alpha[1]: the value '0.1' is repeated" in refused(response, 400)
    assert system.events == []


def test_a_workflow_with_too_many_combinations_is_refused_with_their_number(system: System) -> None:
    many = DOCUMENT.replace("depth: [1, 2]", f"depth: {list(range(33))}")
    message = refused(system.workflows.put("/workflows/train", data=many), 400)
    assert "steps[0].matrix.values: a matrix has at most 64 combinations; this one has 66 (2 of 'alpha' x 33 of 'depth')" in message


def test_requests_by_the_name_of_the_step_mean_all_combinations(system: System) -> None:
    first = system.start()
    assert [step["name"] for step in system.start(until="fit")["steps"]] == STEPS[:5]
    only = system.request(f"/runs/{first['name']}/rerun", {"only": "fit"})
    assert [step["name"] for step in only["steps"]] == STEPS[:5]
    assert [step["name"] for step in system.request(f"/runs/{first['name']}/rerun", {"only": "fit-3"})["steps"]] == ["fit-3"]


def test_a_resumed_run_executes_the_failed_combination_and_keeps_the_values_of_the_others(system: System) -> None:
    first = system.start()
    finished(system, first["name"], "failed")
    run = system.request(f"/runs/{first['name']}/resume", {"images": {"fit": "shell:2"}})
    plan = system.engine.plans[-1]
    assert [step.name for step in plan.steps] == ["fit-4", "fit", "report"]
    assert [(step["name"], step["image"], step["reused_from"]) for step in run["steps"]] == [
        *((name, "shell:1", first["name"]) for name in STEPS[:3]),
        ("fit-4", "shell:2", None),
        ("fit", combinations.RANKER, None),
        ("report", "shell:1", None),
    ]
    assert [step["combination"]["values"]["depth"] for step in run["steps"][:4]] == ["1", "2", "1", "2"]
    assert run["steps"][0]["combination"]["metrics"] == {"rmse": 3.5}


def test_a_run_that_cannot_be_planned_shows_its_steps(system: System) -> None:
    """The registry changes between the request and its delivery."""
    response = system.runs.post("/runs", json={"workflow": "train", "project": "p", "codeset": "code"})
    with system.store.write() as session:
        extensions.remove(session, "minio")
    system.deliver()
    [run] = system.runs.get(f"/runs?request={response.get_json()['request']}").get_json()
    assert (run["state"], [step["name"] for step in run["steps"]]) == ("failed", STEPS)


MADE = {number: {"model": f"models:/m/{number}", "metrics": '{"rmse": 2}'} for number in (1, 2)}
BEST = {**MADE[2], "data": "dataset://p/scored/2"}
RANKED = {**BEST, "best": "fit-2"}


def record(system: System, run: str, **outputs: dict[str, str]) -> dict[str, str | None]:
    """Report these ends of steps to `artifacts`, in this order; returns the addresses of all artifacts with the steps that made them."""
    deps = artifacts_deps.Deps(
        store=system.store,
        publisher=system,
        signer=event_keys.SIGNER,
        tokens=auth.Tokens({}, anonymous=True),
        keyring=secrets.Keyring([secrets.new_key()]),
    )
    app = artifacts_app.create_app(deps).test_client()
    for step, written_by_step in outputs.items():
        finished = events.RunStepFinished(run=run, workflow="train", project="p", step=step, state="succeeded", outputs=written_by_step)
        headers, body = event_keys.encode(events.event(finished, NOON))
        response = app.post(catalog.EVENTS, headers=headers, data=body)
        assert response.status_code in (200, 204), response.text
    with system.store.read() as session:
        found = {address: artifacts.find(session, address) for address in ("model://p/m/1", "model://p/m/2", "dataset://p/scored/2")}
        made = {address: row.step for address, row in found.items() if row is not None}
        for address in (*made, "model://p/m/2"):
            near = lineage.neighbourhood(session, address, "up", 1, 100)
            assert {edge.step for edge in near.edges} == ({made[address]} if address in made else set())
    return made


@pytest.mark.parametrize("ranker_first", [False, True])
def test_an_artifact_is_made_by_its_combination_and_not_by_the_ranker_in_any_order(system: System, *, ranker_first: bool) -> None:
    run = system.start()
    ends = {"fit-1": MADE[1], "fit-2": BEST, "fit": RANKED}
    order = reversed(ends) if ranker_first else ends
    made = record(system, run["name"], **{step: ends[step] for step in order})
    assert made == {"model://p/m/1": "fit-1", "model://p/m/2": "fit-2", "dataset://p/scored/2": "fit-2"}


def test_a_ranker_of_reused_combinations_makes_no_artifact_in_its_run(system: System) -> None:
    first = system.start()
    finished(system, first["name"], "failed", more={"fit-4": written(4, 9.5)})
    again = system.request(f"/runs/{first['name']}/resume", {})
    assert [step.name for step in system.engine.plans[-1].steps] == ["fit", "report"]
    assert record(system, again["name"], fit=RANKED) == {}
