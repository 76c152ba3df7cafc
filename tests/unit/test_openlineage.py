"""OpenLineage events of runs: valid by the published schemas, equal for equal runs, with exactly the recorded edges."""

from __future__ import annotations

import copy
import dataclasses
import uuid
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import plans, times
from fuseml.domain.lineage import openlineage
from fuseml.domain.lineage.record import ArtifactRecord, Edge, RunRecord, StepRecord
from tests import openlineage_schemas

COMMIT = "a" * 40
CODE, RAW, MODEL = f"code://demo/diabetes/{COMMIT}", "dataset://demo/raw/train/7", "model://demo/diabetes/3"
PRODUCER = openlineage.Producer("1.2.3", "fuseml", "http://fuseml.example")
DIGEST = f"sha256:{'1' * 64}"


def minute(number: int) -> str:
    return f"2026-11-21T12:{number:02}:00.000000Z"


def checkout() -> plans.Checkout:
    return plans.Checkout(
        name="code", project="demo", codeset="diabetes", url="http://git/demo/diabetes", ref="refs/heads/main", commit=COMMIT, path="/code"
    )


def step_plan(name: str, *variables: tuple[str, plans.Value], **fields: Any) -> plans.StepPlan:
    given = tuple(plans.Variable(name=key, value=value) for key, value in variables)
    return plans.StepPlan(**{"name": name, "image": plans.text("shell:1"), "variables": given, "checkouts": (checkout(),), **fields})


def a_run(**changes: Any) -> RunRecord:
    """A run that has made a model of a dataset, and then scored another dataset with it."""
    fit = step_plan("fit", ("data", plans.text(RAW)))
    score = step_plan("score", ("model", (plans.OutputPart(step="fit", output="model"),)), checkouts=())
    record = RunRecord(
        id="f" * 32,
        name="train-1",
        workflow="train",
        revision=2,
        project="demo",
        state="succeeded",
        codeset="diabetes",
        commit=COMMIT,
        ref="refs/heads/main",
        repository="http://git.example/demo/diabetes",
        created=minute(0),
        started=minute(1),
        finished=minute(9),
        plan=plans.Plan(id="f" * 32, run="train-1", project="demo", workflow="train", revision=2, steps=(fit, score)),
        steps=(
            StepRecord("fit", "succeeded", minute(2), minute(4), outputs={"model": "models:/diabetes/3"}),
            StepRecord("score", "succeeded", minute(5), minute(8)),
        ),
        edges=(
            Edge(CODE, MODEL, "fit"),
            Edge(RAW, MODEL, "fit"),
            Edge(MODEL, "dataset://demo/scores/1", "score"),
            Edge("runnable://demo/scorer/1", "dataset://demo/scores/1", "score"),
        ),
        artifacts={
            RAW: ArtifactRecord(RAW, digest=DIGEST, location="s3://key:canary@bucket/raw", external=True),
            MODEL: ArtifactRecord(MODEL, digest=DIGEST, format="mlflow", run="train-1", step="fit", metrics={"r2": 0.5}),
            "dataset://demo/scores/1": ArtifactRecord("dataset://demo/scores/1", run="train-1", step="score", size=7),
        },
    )
    return dataclasses.replace(record, **changes)


def events(run: RunRecord, *settled_steps: str, settled: bool = True) -> dict[str, dict[str, Any]]:
    found = openlineage.events_of(run, PRODUCER, settled_steps, settled=settled)
    for event in found:
        openlineage_schemas.check(event.document)
    assert len({event.key for event in found}) == len(found)
    return {event.key: event.document for event in found}


def datasets(event: dict[str, Any], side: str) -> set[str]:
    return {item["facets"]["fuseml_artifact"]["address"] for item in event[side]}


def test_a_run_and_its_steps_are_jobs_with_their_own_inputs_and_outputs() -> None:
    found = events(a_run())
    assert list(found) == ["run/START", "step/fit/START", "step/fit/END", "step/score/START", "step/score/END", "run/END"]
    assert [event["eventType"] for event in found.values()] == ["START", "START", "COMPLETE", "START", "COMPLETE", "COMPLETE"]
    assert [event["eventTime"] for event in found.values()] == [minute(number) for number in (1, 2, 4, 5, 8, 9)]
    assert [event["job"]["name"] for event in found.values()][:2] == ["demo.train", "demo.train.fit"]
    fit, score, whole = found["step/fit/END"], found["step/score/END"], found["run/END"]
    assert (datasets(fit, "inputs"), datasets(fit, "outputs")) == ({CODE, RAW}, {MODEL})
    assert (datasets(score, "inputs"), datasets(score, "outputs")) == ({MODEL, "runnable://demo/scorer/1"}, {"dataset://demo/scores/1"})
    assert (datasets(whole, "inputs"), datasets(whole, "outputs")) == (
        {CODE, RAW, "runnable://demo/scorer/1"},
        {MODEL, "dataset://demo/scores/1"},
    )


def test_the_lineage_facet_holds_the_recorded_edges_and_no_others() -> None:
    whole = events(a_run())["run/END"]
    # The facet is that of the job, also on an event of a run: the specification has no other.
    entries = whole["job"]["facets"]["lineage"]["entries"]
    found = {(source["namespace"], source["name"], entry["namespace"], entry["name"]) for entry in entries for source in entry["inputs"]}
    assert found == {
        ("code://demo", "diabetes", "model://demo", "diabetes"),
        ("dataset://demo", "raw/train", "model://demo", "diabetes"),
        ("model://demo", "diabetes", "dataset://demo", "scores"),
        ("runnable://demo", "scorer", "dataset://demo", "scores"),
    }
    assert sum("lineage" in part.get("facets", {}) for part in (whole["run"], whole["job"], *whole["inputs"], *whole["outputs"])) == 1


def test_a_model_is_a_dataset_with_a_version_and_its_descriptor() -> None:
    [model] = [item for item in events(a_run())["step/fit/END"]["outputs"] if item["namespace"] == "model://demo"]
    assert (model["name"], model["facets"]["version"]["datasetVersion"]) == ("diabetes", "3")
    facet = model["facets"]["fuseml_artifact"]
    assert (facet["digest"], facet["format"], facet["metrics"], facet["step"]) == (DIGEST, "mlflow", {"r2": 0.5}, "fit")
    assert facet["_producer"] == "https://fuseml.org/versions/1.2.3"
    assert facet["_schemaURL"] == openlineage.ARTIFACT_FACET


def test_steps_name_the_run_as_their_parent() -> None:
    found = events(a_run())
    parent = found["step/fit/START"]["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == found["run/START"]["run"]["runId"] == found["run/END"]["run"]["runId"]
    assert parent["job"] == {"namespace": "fuseml", "name": "demo.train"}
    assert len({event["run"]["runId"] for event in found.values()}) == 3
    assert found["step/fit/START"]["run"]["runId"] == found["step/fit/END"]["run"]["runId"]
    assert found["run/END"]["run"]["facets"]["fuseml_run"]["url"] == "http://fuseml.example/runs/train-1"


def test_an_end_waits_for_its_lineage() -> None:
    assert list(events(a_run(), settled=False)) == ["run/START", "step/fit/START", "step/score/START"]
    assert "step/fit/END" in events(a_run(), "fit", settled=False)
    queued = a_run(state="queued", started=None, finished=None, steps=(StepRecord("fit", "queued"),), edges=(), artifacts={})
    assert events(queued, settled=False) == {}


@pytest.mark.parametrize(("state", "type"), [("failed", "FAIL"), ("cancelled", "ABORT")])
def test_a_failure_has_its_cause(state: str, type: str) -> None:
    steps = (
        StepRecord("fit", state, minute(2), None, cause="no data"),
        StepRecord("score", "skipped"),
        StepRecord("old", "succeeded", minute(1), minute(1), reused_from="train-0"),
        StepRecord("never", state),
    )
    found = events(a_run(state=state, cause="fit failed: no data", steps=steps, edges=(), artifacts={}))
    assert list(found) == ["run/START", "step/fit/START", "step/fit/END", "run/END"]
    assert found["run/END"]["eventType"] == found["step/fit/END"]["eventType"] == type
    assert found["run/END"]["run"]["facets"]["errorMessage"]["message"] == "fit failed: no data"
    # The end of the step is only inferred from that of the run.
    assert found["step/fit/END"]["eventTime"] == minute(9)


def test_a_run_that_could_not_be_planned_begins_and_fails() -> None:
    found = events(a_run(plan=None, started=None, state="failed", cause="no tool", steps=(), edges=(), artifacts={}))
    assert [(key, event["eventTime"]) for key, event in found.items()] == [("run/START", minute(0)), ("run/END", minute(9))]


def test_combinations_of_a_matrix_are_runs_of_one_job() -> None:
    combined = [step_plan(f"fit-{number}", combination=plans.Combination(step="fit", values={})) for number in (1, 2)]
    plan = plans.Plan(id="f", run="train-1", project="demo", workflow="train", revision=2, steps=tuple(combined))
    steps = [StepRecord(step.name, "succeeded", minute(2), minute(3)) for step in combined]
    found = events(a_run(plan=plan, steps=steps, edges=(), artifacts={}))
    ends = [event for key, event in found.items() if key.startswith("step/") and key.endswith("END")]
    assert [event["job"]["name"] for event in ends] == ["demo.train.fit"] * 2
    assert len({event["run"]["runId"] for event in ends}) == 2


def test_equal_runs_have_equal_events_and_no_event_shows_an_account() -> None:
    assert events(a_run()) == events(copy.deepcopy(a_run()))
    assert "canary" not in str(events(a_run()))


@given(
    st.datetimes(min_value=times.parse("2000-01-01T00:00:00").replace(tzinfo=None)).map(lambda moment: f"{moment.isoformat()}Z"),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_a_run_id_is_a_uuid_of_version_7_that_follows_from_the_identity(moment: str, first: str, second: str) -> None:
    found = uuid.UUID(openlineage.run_id(moment, first, second))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == int(times.unix(moment) * 1000)
    assert str(found) == openlineage.run_id(moment, first, second)
    assert str(found) != openlineage.run_id(moment, first, second + "x")


@pytest.mark.parametrize("path", [("eventTime",), ("run", "runId"), ("job", "facets", "lineage", "entries", 0, "type")])
def test_the_validation_refuses_a_wrong_event(path: tuple[Any, ...]) -> None:
    event: Any = events(a_run())["run/END"]
    place = event
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "wrong" if path[-1] != "eventTime" else 7
    with pytest.raises(jsonschema.ValidationError):
        openlineage_schemas.check(event)
