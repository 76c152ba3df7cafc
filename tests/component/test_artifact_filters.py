"""Filters of assignments and triggers: only artifacts that pass them start the workflow, in any order of events, and reasons are recorded."""

from __future__ import annotations

import itertools
import pathlib
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import sqlmodel

from fuseml.domain import errors, events
from fuseml.domain.artifacts import search, subscription
from fuseml.domain.workflows import lint, loading
from fuseml.store import artifact_search, artifacts, database, paging
from fuseml.store.tables import decision_rows
from tests.component import triggering
from tests.component.registered import Registered, furnish

MODEL = "model://p/wine/1"
GOOD: dict[str, Any] = {"framework": {"name": "scikit-learn", "version": "1.5.0"}, "format": "mlflow", "metrics": {"rmse": 0.5, "r2": 0.9}}
FILTERS = "format=mlflow&framework=scikit-learn>=1.4&metrics.rmse<0.8"


def document(*patterns: str, name: str = "serve") -> str:
    listed = f"on:\n  patterns: [{', '.join(patterns)}]\n" if patterns else ""
    return f"name: {name}\ninputs: [{{name: it, type: model}}]\n{listed}steps:\n  - {{name: s, image: 'i:1', inputs: [{{name: it, value: '{{{{ inputs.it }}}}'}}]}}\n"


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    yield system
    system.store.close()


def register(world: triggering.World, address: str = MODEL, **fields: object) -> None:
    response = (
        world.functions["artifacts"].test_client().post("/artifacts", json={"address": address, "location": "models:/wine/1", **fields})
    )
    assert response.status_code == 201, response.text
    world.settle()


def started(world: triggering.World, name: str = "serve") -> list[str]:
    return [run["trigger"]["artifact"] for run in world.get(f"/runs?workflow={name}")]


def reasons(world: triggering.World) -> list[str]:
    with world.store.read() as session:
        return [row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision)) if row.workflow and not row.run]


@pytest.mark.parametrize("by", ["assignment", "trigger", "metrics of a trigger"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"metrics": {"rmse": 0.9}}, "metrics.rmse<0.8: its rmse is 0.9"),
        ({"metrics": {"r2": 0.9}}, "metrics.rmse<0.8: it has no metric rmse"),
        ({"framework": {"name": "scikit-learn", "version": "1.3.2"}}, "framework=scikit-learn>=1.4: its framework is scikit-learn 1.3.2"),
        ({"framework": {"name": "torch", "version": "2.0"}}, "framework=scikit-learn>=1.4: its framework is torch 2.0"),
        ({"framework": None}, "framework=scikit-learn>=1.4: it has no such framework"),
        ({"format": "onnx"}, "format=mlflow: its format is onnx"),
    ],
)
def test_only_a_model_that_passes_the_filters_starts_the_workflow(
    world: triggering.World, by: str, fields: dict[str, Any], reason: str
) -> None:
    if by == "assignment":
        world.workflow(document())
        world.assign("serve", urllib.parse.quote(f"model://p/*?{FILTERS}", safe=""))
    elif by == "trigger":
        world.workflow(document(f"'model://p/*?{FILTERS}'"))
    else:
        place, metrics = f"model://*?{FILTERS}".split("&metrics.")
        world.workflow(document(f"{{pattern: '{place}', metrics: '{metrics}'}}"))
    register(world, MODEL, **{**GOOD, **fields})
    assert started(world) == ([] if reason else [MODEL])
    refusals = [text for text in reasons(world) if text.startswith(f"{MODEL} does not pass model://")]
    assert [reason in text for text in refusals] == [True] * bool(reason)


def test_the_pattern_that_passes_decides_among_several(world: triggering.World) -> None:
    world.workflow(document("'model://p/*?metrics.rmse<0.1'", "{pattern: 'model://p/*', metrics: 'rmse < 0.8, r2 > 0.5'}"))
    world.assign("serve", urllib.parse.quote("model://p/*?format=onnx", safe=""))
    register(world, MODEL, **GOOD)
    assert started(world) == [MODEL]
    register(world, "model://p/wine/2", metrics={"rmse": 0.7, "r2": 0.4})
    assert started(world) == [MODEL]
    assert reasons(world)[-1].count("its rmse is 0.7") == 1
    assert reasons(world)[-1].count("its r2 is 0.4") == 1


def test_an_artifact_without_filters_on_it_starts_as_before(world: triggering.World) -> None:
    world.workflow(document("'model://p/*'"))
    world.assign("serve", urllib.parse.quote("model://p/*?metrics.rmse<0.1", safe=""))
    register(world)
    assert started(world) == [MODEL]


@pytest.mark.parametrize("order", list(itertools.permutations(["registered", "finished", "again"])))
@pytest.mark.parametrize("backwards", [False, True])
def test_metrics_that_come_after_the_registration_start_the_workflow_once(
    world: triggering.World, order: tuple[str, ...], backwards: bool
) -> None:
    world.workflow(
        "name: train\ninputs: [{name: code, type: codeset}]\nsteps: [{name: step, image: 'i:1', inputs: [{codeset: {name: code}}], outputs: [{name: model}, {name: metrics}]}]"
    )
    world.assign("train", "code://p/code")
    world.settle()
    world.push("a" * 40)
    world.settle()
    world.workflow(document("'model://p/*?metrics.rmse<0.8'"))
    world.workflow(document("'model://p/*'", name="unfiltered"))
    registered = events.ModelRegistered(extension="p", name="wine", version="1", tags={"fuseml.project": "p", "fuseml.run": "train-1"})
    finished = events.RunStepFinished(
        run="train-1",
        workflow="train",
        project="p",
        step="step",
        state="succeeded",
        outputs={"model": "models:/wine/1", "metrics": '{"rmse": 0.5}'},
    )
    caused: list[events.Event] = []
    for index, name in enumerate(order):
        event = events.event(finished if name == "finished" else registered, triggering.NOON)
        if name == "again":
            event = events.event(registered.model_copy(update={"version": "1"}), triggering.NOON.replace("12:00", "12:01"))
        world.deliver(event)
        caused, world.events = [*caused, *world.events], []
        if index == 0 and name != "finished" and not backwards:
            world.events, caused = caused, []
            world.settle()
            assert started(world) == []
    world.events = caused[::-1] if backwards else caused
    world.settle()
    assert started(world) == [MODEL]
    assert started(world, "unfiltered") == [MODEL]
    # Further facts start nothing again, nor does a later revision of the workflow.
    response = world.functions["workflows"].test_client().put("/workflows/serve", data=document("'model://p/*?metrics.rmse<0.9'"))
    assert response.status_code in (200, 204), response.text
    register(world, metrics={"r2": 0.1}, location=None)
    assert started(world) == [MODEL]


def test_a_run_is_settled_after_the_runs_that_its_metrics_start(world: triggering.World) -> None:
    world.workflow(
        "name: train\ninputs: [{name: code, type: codeset}]\nsteps: [{name: step, image: 'i:1', inputs: [{codeset: {name: code}}], outputs: [{name: model}, {name: metrics}]}]"
    )
    world.assign("train", "code://p/code")
    world.settle()
    world.push("a" * 40)
    world.settle()
    world.workflow(document("'model://p/*?metrics.rmse<0.8'"))
    registered = events.ModelRegistered(extension="p", name="wine", version="1", tags={"fuseml.project": "p", "fuseml.run": "train-1"})
    world.publish(events.event(registered, triggering.NOON))
    world.settle()
    world.finish("train-1", model="models:/wine/1", metrics='{"rmse": 0.5}')
    while world.events:
        assert world.run("train-1")["settled"] is False
        assert started(world) == []
        world.deliver(world.events.pop(0))
        if started(world):
            break
    assert started(world) == [MODEL]
    world.settle()
    assert world.run("train-1")["settled"] is True


BAD = [
    ("model://p/*?colour=red", "is not a filter"),
    ("model://p/*?metrics.rmse<x", "is not a condition"),
    ("model://p/*?framework=sk>=", "is not a version constraint"),
    ("model://p/*?", "is not a filter"),
    ("model://p/*?format=a&format=b", "nothing is both"),
    ("model://p/*?tag=best", "filters by tag"),
    ("model://p/*?label=eu", "filters by label"),
    ("code://p/code?format=git", "filters code"),
    ("modell://*?format=a", "is not a pattern"),
    ("model://p/*?" + "&".join(["metrics.a<1"] * 30), "at most 20 filters"),
    ("model://p/" + "x" * 1000, "the limit of a pattern is 1000"),
]


@pytest.mark.parametrize(("pattern", "word"), BAD)
def test_a_bad_filter_is_refused_at_its_place(world: triggering.World, pattern: str, word: str) -> None:
    with pytest.raises(errors.InvalidError, match=word):
        subscription.parse(pattern)
    world.workflow(document())
    client = world.functions["workflows"].test_client()
    answer = client.post(f"/workflows/assignments?name=serve&pattern={urllib.parse.quote(pattern, safe='')}")
    assert (answer.status_code, word in answer.text) == (400, True), answer.text
    [finding] = lint.lint_text(document("'model://ok/*'", f"'{pattern}'", name="other"))
    assert (finding.level, finding.path, finding.line, word in finding.message) == ("error", "on.patterns[1]", 4, True)
    [finding] = lint.lint_text(document(f"{{pattern: '{pattern}', metrics: 'rmse < 1'}}", name="other"))[:1]
    assert (finding.path, finding.line) == ("on.patterns[0].pattern", 4)


@pytest.mark.parametrize("metrics", ["rmse", "rmse < x", "rmse < 1,", "rmse < 1 & r2 > 0", ", "])
def test_a_bad_comparison_of_a_trigger_is_refused_at_its_place(metrics: str) -> None:
    text = document(f"{{pattern: 'model://*', metrics: '{metrics}'}}")
    [finding] = lint.lint_text(text)
    assert (finding.level, finding.path, finding.line) == ("error", "on.patterns[0].metrics", 4)
    assert text.splitlines()[3][(finding.column or 0) - 1 :].startswith(f"metrics: '{metrics}'")
    with pytest.raises(errors.InvalidError, match="line 4"):
        loading.load(text)


def test_a_trigger_has_the_filters_of_its_pattern_and_its_comparisons(world: triggering.World) -> None:
    many = "&".join(f"metrics.m{number}<1" for number in range(20))
    world.workflow(document(f"{{pattern: 'model://*?{many}', metrics: 'rmse < 0.8'}}"))
    passing = {f"m{number}": 0 for number in range(20)}
    register(world, "model://p/wine/2", metrics={**passing, "rmse": 0.9})
    assert started(world) == []
    register(world, MODEL, metrics={**passing, "rmse": 0.5})
    assert started(world) == [MODEL]
    [finding] = lint.lint_text(document("{pattern: 'model://*', metrics: '" + ", ".join(["rmse<1"] * 21) + "'}", name="other"))
    assert (finding.path, "the limit is 20" in finding.message) == ("on.patterns[0].metrics", True)


def test_a_pattern_of_a_former_release_with_a_question_mark_in_a_name_means_what_it_meant() -> None:
    found = subscription.stored("model://p/what?*")
    assert found.covers("model", "p", "what?ever")
    assert not found.is_filtered


def test_a_search_and_an_assignment_admit_the_same_artifacts(sqlite_store: database.Database) -> None:
    furnish(Registered(sqlite_store))
    with sqlite_store.read() as session:
        rows = artifact_search.page(session, paging.Page(), search.EVERYTHING, artifact_search.Origin()).rows
        for text in (
            FILTERS,
            "format=onnx",
            "type=text/csv",
            "framework=scikit-learn !=1.2.x, <1.4",
            "framework=torch",
            "framework=torch>=1",
            "metrics.rmse>=0.2&metrics.r2>0.55",
            "metrics.rmse=0.2",
            "metrics.none!=1",
        ):
            wanted = search.filters(text)
            found = {row.address for row in artifact_search.page(session, paging.Page(), wanted, artifact_search.Origin()).rows}
            assert {row.address for row in rows if artifact_search.passes(session, row, wanted)} == found
            for row in rows:
                assert (artifact_search.shortfall(session, row, wanted) == "") is (row.address in found)
                assert artifacts.get(session, row.address) is row
