"""The results of code versions: which runs are listed, with what they took and made, over the real functions and store."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy

from functions.runs import results
from fuseml.store import runs
from fuseml.store.tables import run_rows
from tests.component import triggering

A, B = "a" * 40, "ab" + "b" * 38
TRAIN = """
name: train
inputs: [{name: mlflow_code, type: codeset}, {name: alpha, default: 0.5}]
outputs: [{name: model, type: model}]
steps:
  - name: fit
    image: shell:1
    inputs: [{codeset: {name: "{{ inputs.mlflow_code }}"}}, {name: alpha, value: "{{ inputs.alpha }}"}]
    outputs: [{name: model}]
"""
SERVE = """
name: serve
inputs: [{name: model, type: model}, {name: predictor, default: sklearn}]
outputs: [{name: url}]
on: {patterns: ["model://*"]}
steps:
  - name: deploy
    image: shell:1
    inputs: [{name: model, value: "{{ inputs.model }}"}, {name: predictor, value: "{{ inputs.predictor }}"}]
    outputs: [{name: url}]
"""
CODE = "code://p/code/"


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    system.workflow(TRAIN)
    system.workflow(SERVE)
    system.assign("train", "code://p/*")
    system.settle()
    yield system
    system.store.close()


def push(world: triggering.World, commit: str = A, model: str = "models:/m/1", codeset: str = "code") -> str:
    """A push, whose training makes a model, which starts the serving; the name of the training."""
    world.push(commit, codeset=codeset)
    world.settle()
    [run] = world.get(f"/runs?workflow=train&commit={commit}")
    world.finish(run["name"], model=model)
    world.settle()
    return str(run["name"])


def listed(world: triggering.World, query: str) -> list[str]:
    return [item["run"] for item in world.get(f"/pipelines/results?{query}")]


def refusal(world: triggering.World, query: str) -> tuple[int, str]:
    response = world.functions["runs"].test_client().get(f"/pipelines/results?{query}")
    return response.status_code, str(response.get_json()["message"])


def test_the_current_code_and_all_that_follows_from_it(world: triggering.World) -> None:
    push(world)
    world.finish("serve-1", url="http://m.example.org")
    world.settle()
    assert listed(world, "project=p") == ["train-1"]
    train, serve = world.get("/pipelines/results?project=p&recursive=true")
    assert train["inputs"] == [
        {"name": "mlflow_code", "value": f"{CODE}{A}", "address": f"{CODE}{A}", "default": False},
        {"name": "alpha", "value": "0.5", "address": None, "default": True},
    ]
    model = "model://p/m/1"
    assert [item["address"] for item in train["outputs"]] == [model]
    assert (serve["workflow"], serve["number"], serve["caused_by"]) == ("serve", 1, "train-1")
    assert serve["inputs"] == [
        {"name": "model", "value": "models:/m/1", "address": model, "default": False},
        {"name": "predictor", "value": "sklearn", "address": None, "default": True},
    ]


def test_an_output_of_the_workflow_is_named_by_it(world: triggering.World) -> None:
    push(world)
    with world.store.write() as session:
        runs.get(session, "train-1").outputs = {"model": "models:/m/1"}
    [train] = world.get("/pipelines/results?project=p")
    assert train["outputs"] == [{"name": "model", "value": "models:/m/1", "address": "model://p/m/1"}]


def test_a_newer_version_replaces_the_current_one_and_the_former_is_still_addressed(world: triggering.World) -> None:
    push(world, A, "models:/m/1")
    push(world, B, "models:/m/2")
    assert listed(world, "project=p&recursive=true") == ["train-2", "serve-2"]
    assert listed(world, f"code={CODE}{A}&recursive=true") == ["train-1", "serve-1"]
    assert listed(world, f"code={CODE}{B[:7]}") == ["train-2"]


def test_the_current_versions_of_all_codesets_or_of_one(world: triggering.World) -> None:
    world.codeset("other")
    push(world, A, "models:/m/1")
    push(world, B, "models:/n/1", codeset="other")
    assert listed(world, "project=p&recursive=true") == ["train-1", "serve-1", "train-2", "serve-2"]
    assert listed(world, "project=p&codeset=other&recursive=true") == ["train-2", "serve-2"]


def test_a_run_by_hand_on_a_model_is_a_result_of_the_code(world: triggering.World) -> None:
    push(world)
    for model in ("models:/m/1", "model://p/m/1", "models:/m/11"):
        started = {"workflow": "serve", "project": "p", "inputs": {"model": model}}
        assert world.functions["runs"].test_client().post("/runs", json=started).status_code == 202
    world.settle()
    assert listed(world, "project=p&recursive=true") == ["train-1", "serve-1", "serve-2", "serve-3"]


def test_results_over_several_generations_and_what_is_passed_on(world: triggering.World) -> None:
    """A run that writes the address of its own input has not made it: the other runs on it are no results."""
    world.workflow(SERVE.replace("name: serve", "name: watch").replace("model://*", "dataset://*").replace("model", "dataset"))
    push(world)
    world.finish("serve-1", dataset="dataset://p/scored/1", digest=f"sha256:{'0' * 64}")
    world.settle()
    assert listed(world, "project=p&recursive=true") == ["train-1", "serve-1", "watch-1"]
    assert [item["value"] for item in world.get("/pipelines/results?project=p&recursive=true")[1]["outputs"]] == ["dataset://p/scored/1"]
    world.finish("watch-1", dataset="dataset://p/scored/1")
    world.settle()
    assert world.get("/pipelines/results?project=p&recursive=true")[2]["outputs"] == []


def test_the_training_of_two_pushes_that_repeat_a_model_share_its_serving(world: triggering.World) -> None:
    """As a cached step does: the outputs name a model that an earlier run has made."""
    push(world, A, "models:/m/1")
    push(world, B, "models:/m/1")
    assert listed(world, "project=p&recursive=true") == ["serve-1", "train-2"]


def test_pages_are_complete_and_ordered(world: triggering.World) -> None:
    push(world)
    client = world.functions["runs"].test_client()
    first = client.get("/pipelines/results?project=p&recursive=true&limit=1")
    assert [item["run"] for item in first.get_json()] == ["train-1"]
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    second = client.get(following[following.index("/pipelines") :])
    assert [item["run"] for item in second.get_json()] == ["serve-1"]
    assert "Link" not in second.headers


def test_a_failed_run_shows_its_cause_and_a_running_one_its_state(world: triggering.World) -> None:
    world.push(A)
    world.settle()
    assert [item["state"] for item in world.get("/pipelines/results?project=p")] == ["queued"]
    world.finish("train-1", "failed")
    world.settle()
    [train] = world.get("/pipelines/results?project=p")
    assert (train["state"], train["outputs"]) == ("failed", [])


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "name the project"),
        ("project=none", 404, "no project named 'none'"),
        ("project=p&codeset=none", 404, "no codeset p/none"),
        ("code=model://p/m/1", 400, "is not a codeset version"),
        ("code=code://p/code/main", 400, "is not a codeset version"),
        ("code=code://p/code/aaa", 400, "at least 7 hex digits"),
        (f"code={CODE}{'c' * 40}", 404, "no codeset version"),
        ("code=code://p/code", 400, "names no version"),
        (f"code={CODE}{A}&project=q", 400, "is not of q"),
        ("project=p&cursor=x", 400, "cursor"),
        ("project=p&recursive=perhaps", 400, "recursive"),
    ],
)
def test_bad_queries_are_refused(world: triggering.World, query: str, status: int, words: str) -> None:
    push(world)
    assert refusal(world, query)[0] == status
    assert words in refusal(world, query)[1]


def test_an_ambiguous_abbreviation_is_refused(world: triggering.World) -> None:
    push(world, "abcdef0" + "1" * 33, "models:/m/1")
    push(world, "abcdef0" + "2" * 33, "models:/m/2")
    status, message = refusal(world, f"code={CODE}abcdef0")
    assert (status, message.count("abcdef0")) == (409, 3)


def test_a_project_without_pushes_has_no_results(world: triggering.World) -> None:
    assert world.get("/pipelines/results?project=p&recursive=true") == []
    assert world.get("/pipelines/results?project=p") == []


def test_one_page_costs_a_fixed_number_of_queries(world: triggering.World) -> None:
    """However many runs it has: nothing is read run by run."""
    executed: list[str] = []

    def count(query: str) -> int:
        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            executed.append(statement)

        with world.store.read() as session:
            engine = session.get_bind().engine
        executed.clear()
        sqlalchemy.event.listen(engine, "before_cursor_execute", note)
        world.get(query)
        sqlalchemy.event.remove(engine, "before_cursor_execute", note)
        return len(executed)

    push(world)
    before = count("/pipelines/results?project=p&recursive=true")
    with world.store.write() as session:
        serve = runs.get(session, "serve-1").model_dump()
        for number in range(2, 60):
            session.add(run_rows.Run(**{**serve, "id": f"id-{number}", "name": f"serve-{number}", "sequence": 100 + number}))
    assert len(listed(world, "project=p&recursive=true")) == 60
    assert count("/pipelines/results?project=p&recursive=true") == before


def test_too_many_runs_are_refused(world: triggering.World) -> None:
    push(world)
    with world.store.write() as session:
        serve = runs.get(session, "serve-1").model_dump()
        for number in range(2, results.MOST_RUNS + 2):
            session.add(run_rows.Run(**{**serve, "id": f"id-{number}", "name": f"serve-{number}", "sequence": 100 + number}))
    assert refusal(world, "project=p&recursive=true")[0] == 409
    assert listed(world, "project=p") == ["train-1"]
