"""Pipelines over the API: compositions, and templates that become workflows of a project, all or nothing; on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from fuseml.domain.artifacts import names
from fuseml.store import artifact_names, artifacts, database, workflows
from tests.component.pipeline_api import NOON, Pipelines

NOTHING: tuple[list[str], list[tuple[str, str]], list[str]] = ([], [], [])
CODE, MODEL, DATA = "code://*", "model://*", "dataset://*"


@pytest.fixture
def api(store: database.Database) -> Pipelines:
    return Pipelines(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Pipelines:
    """For refusals that do not depend on the kind of database."""
    return Pipelines(sqlite_store)


# Composition


def test_a_pipeline_is_composed_and_nothing_is_stored(api: Pipelines) -> None:
    found = api.compose("mlflow-builder", "mlflow-trainer", "kserve-predictor")
    assert [step["runnable"] for step in found["workflow"]["steps"]] == ["mlflow-builder", "mlflow-trainer", "kserve-predictor"]
    coupled = {item["input"]: item["source"] for item in found["couplings"]}
    assert (coupled["predictor.model"], coupled["trainer.image"]) == ("trainer.model", "builder.image")
    assert api.state() == NOTHING


def test_the_runnables_of_the_project_are_composed(api: Pipelines) -> None:
    api.register("demo", name="halve", inputs=[{"name": "rows", "type": "integer"}], outputs=[{"name": "rows", "type": "integer"}])
    found = api.compose("halve", "again=halve@^1", project="demo", inputs=["halve.rows=8"])
    assert found["workflow"]["inputs"] == [{"name": "rows", "type": "integer", "default": "8"}]
    assert found["couplings"][1] == {
        "input": "again.rows",
        "source": "halve.rows",
        "reason": "it takes text of the name 'rows', and an integer is accepted as an integer",
    }
    assert "has no runnable 'halve'" in api.compose("halve", project="other", status=404)["message"]
    assert "satisfies ^2" in api.compose("halve@^2", project="demo", status=404)["message"]


def test_a_refused_composition_names_every_input(small: Pipelines) -> None:
    refused = small.compose("scorer", "predictor", connections=["predictor.model=scorer.uri"], status=400)
    assert [problem["path"] for problem in refused["details"]["problems"]] == [
        "predictor.model=scorer.uri",
        "scorer.data",
        "scorer.output",
    ]
    small.compose("scorer", name="a b", inputs=["scorer.data", "scorer.output"], status=400)
    small.compose(status=400)


# Templates


def test_a_template_becomes_a_workflow_with_an_assignment_and_again_nothing(api: Pipelines) -> None:
    added = api.add("mlflow-train", "train", mlflow_code=CODE)
    assert (added["name"], added["patterns"], added["revision"], added["changed"]) == ("train", ["code://demo/*"], 1, True)
    assert added["template"] == added["workflow"]["template"]
    assert added["template"].startswith("fuseml/mlflow-train@")
    expected = (["train"], [("train", "code://demo/*")], ["workflow.updated", "workflow.assigned"])
    assert api.state() == expected
    assert api.add("mlflow-train", "train", mlflow_code=CODE) == {**added, "changed": False}
    assert api.add("fuseml/mlflow-train", "train", mlflow_code="code://demo/*")["changed"] is False
    assert api.state() == expected


def test_a_pipeline_that_was_unassigned_is_assigned_again(api: Pipelines) -> None:
    api.add("mlflow-serve", "serve", model=MODEL)
    with api.store.write() as session:
        workflows.unassign(session, "serve", "model://demo/*")
    assert api.add("mlflow-serve", "serve", model=MODEL)["changed"] is True
    assert api.types() == ["workflow.updated", "workflow.assigned", "workflow.assigned"]


def test_other_content_and_other_assignments_under_the_name_are_conflicts(api: Pipelines) -> None:
    api.add("mlflow-serve", "serve", model=MODEL, application="one")
    before = api.state()
    refused = api.add("mlflow-serve", "serve", model=MODEL, application="two", status=409)
    assert refused["details"]["different"] == ["inputs"]
    assert "made from fuseml/mlflow-serve@" in refused["message"]
    assert "steps" in api.add("mlflow-train", "serve", mlflow_code=CODE, status=409)["message"]
    refused = api.add("mlflow-serve", "serve", model="model://demo/wine", application="one", status=409)
    assert "is assigned to model://demo/*" in refused["message"]
    assert api.state() == before


def test_a_deleted_pipeline_is_added_as_a_new_revision(api: Pipelines) -> None:
    api.add("mlflow-serve", "serve", model=MODEL)
    with api.store.write() as session:
        workflows.delete(session, "serve", NOON)
    added = api.add("mlflow-train", "serve", mlflow_code=CODE)
    assert (added["revision"], api.state()[1]) == (2, [("serve", "code://demo/*")])


def test_while_the_broker_is_away_the_addition_is_stored_with_its_events(api: Pipelines) -> None:
    api.away = True
    assert api.add("mlflow-train", "train", mlflow_code=CODE)["changed"] is True
    assert api.state() == (["train"], [("train", "code://demo/*")], [])


@pytest.mark.parametrize(
    ("template", "inputs", "status", "message"),
    [
        ("mlflow-trian", {}, 404, "has no template 'mlflow-trian'"),
        ("nowhere/train", {}, 404, "there is no catalogue 'nowhere'"),
        ("a/b/c", {}, 400, "is not a template"),
        ("mlflow-train", {}, 400, "needs a value"),
        ("mlflow-train", {"mlflow_code": "code://demo/nothing"}, 404, "nothing"),
        ("mlflow-train", {"mlflow_code": "code://other/*"}, 400, "is not of the project"),
        ("mlflow-serve", {"model": "model://demo/wine/1"}, 404, "there is no artifact model://demo/wine/1"),
        ("mlflow-serve", {"model": "model://demo/wine@best"}, 404, "there is no tag"),
        ("batch-score", {"model": MODEL, "data": DATA}, 400, "one input takes a pattern"),
    ],
)
def test_a_refused_addition_leaves_nothing(template: str, inputs: dict[str, str], status: int, message: str, small: Pipelines) -> None:
    assert message in small.add(template, "w", status=status, **inputs)["message"]
    assert small.state() == NOTHING


def test_a_project_that_does_not_exist_gets_no_pipeline(small: Pipelines) -> None:
    small.add("mlflow-train", "w", project="nowhere", status=404, mlflow_code=CODE)
    small.add("mlflow-train", "a b", status=400, mlflow_code=CODE)
    assert small.state() == NOTHING


def test_the_address_of_an_artifact_fixes_an_input(small: Pipelines) -> None:
    with small.store.write() as session:
        address = "model://demo/wine/1"
        row = artifacts.Artifact(address=address, kind="model", project="demo", name="wine", version="1", created=NOON)
        artifacts.record(session, row)
        artifact_names.put_tag(session, row, "best", names.Placed(address, immutable=False), "ada", NOON)
    added = small.add("batch-score", "w", model="model://demo/wine@best", data=DATA)
    assert {item["name"]: item.get("default") for item in added["workflow"]["inputs"]}["model"] == "model://demo/wine@best"
    assert small.state()[1] == [("w", "dataset://demo/*")]


def test_the_catalogue_that_ships_describes_its_templates(small: Pipelines) -> None:
    assert [(item["name"], item["built_in"], item["url"]) for item in small.call("GET", "/catalogs")] == [("fuseml", True, "")]
    shown = small.call("GET", "/catalogs/fuseml")
    by_name = {item["name"]: item for item in shown["templates"]}
    assert list(by_name) == ["batch-score", "mlflow-e2e", "mlflow-serve", "mlflow-train", "retrain-on-data"]
    assert [item["problem"] for item in by_name.values()] == [""] * 5
    assert [(item["name"], item["pattern"], item["needed"]) for item in by_name["mlflow-train"]["inputs"]] == [
        ("mlflow_code", True, True),
        ("parameters", False, False),
    ]
    small.call("GET", "/catalogs/nowhere", status=404)
