"""A feature branch does not replace production: the refs whose runs serve, by push, request, schedule and artifact; previews and their end."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pytest

from functions.housekeeper import previews
from fuseml import servings
from fuseml.domain import model_servers
from fuseml.domain.workflows import deployment
from fuseml.store import applications, codesets, runs
from tests.component import githost, test_missed_pushes, triggering

A, B = "a" * 40, "b" * 40
FEATURE = "refs/heads/feature"

server, clone = githost.server, githost.clone

E2E = """
name: e2e
inputs: [{name: code, type: codeset}]
steps:
  - {name: train, image: "t:1", inputs: [{codeset: {name: code}}], outputs: [{name: model}]}
  - {name: serve, image: "ghcr.io/fuseml/predictor:v1", inputs: [{name: model, value: "{{ steps.train.outputs.model }}"}]}
"""
SERVE = """
name: serve-models
inputs: [{name: it, type: model}]
on: {patterns: ['model://*']}
steps: [{name: serve, image: "ghcr.io/fuseml/predictor:v1", inputs: [{name: model, value: "{{ inputs.it }}"}]}]
"""


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    with system.store.write() as session:
        codesets.record_default_branch(session, codesets.codeset(session, "p", "code"), "main")
    yield system
    system.store.close()


def pushed(world: triggering.World, ref: str, commit: str = A) -> dict[str, Any]:
    """The run of a push."""
    world.push(commit, ref=ref)
    world.settle()
    newest: dict[str, Any] = world.get("/runs?limit=1")[0]
    return newest


def step_names(run: dict[str, Any]) -> list[str]:
    return [step["name"] for step in run["steps"]]


def assigned(world: triggering.World, document: str = E2E) -> None:
    world.workflow(document)
    world.assign("e2e", "code://p/code")
    world.settle()


def requested(world: triggering.World, path: str, body: dict[str, object]) -> dict[str, Any]:
    response = world.functions["runs"].test_client().post(path, json=body)
    assert response.status_code == 202, response.text
    world.settle()
    newest: dict[str, Any] = world.get("/runs?limit=1")[0]
    return newest


def test_only_the_default_branch_serves(world: triggering.World) -> None:
    assigned(world)
    feature, main = pushed(world, FEATURE), pushed(world, triggering.MAIN, B)
    assert (step_names(feature), feature["ref"]) == (["train"], FEATURE)
    assert (step_names(main), main["ref"]) == (["train", "serve"], triggering.MAIN)


def test_the_only_branch_of_a_codeset_is_its_default_until_the_host_reports_one(world: triggering.World) -> None:
    with world.store.write() as session:
        codesets.codeset(session, "p", "code").default_branch = ""
    assigned(world)
    assert step_names(pushed(world, "refs/heads/master")) == ["train", "serve"]
    with world.store.write() as session:
        codesets.record_default_branch(session, codesets.codeset(session, "p", "code"), "feature")
    assert step_names(pushed(world, FEATURE, B)) == ["train", "serve"]


def test_the_workflow_names_the_refs(world: triggering.World) -> None:
    assigned(world, E2E + "deploy: {refs: [feature]}")
    assert step_names(pushed(world, FEATURE)) == ["train", "serve"]
    assert step_names(pushed(world, triggering.MAIN, B)) == ["train"]


def test_a_model_of_a_feature_branch_is_not_served(world: triggering.World) -> None:
    assigned(world, E2E.replace("name: serve,", "name: serve, when: [{input: x, values: []}],"))
    world.workflow(SERVE)
    for number, (ref, commit) in enumerate([(FEATURE, A), (triggering.MAIN, B)], start=1):
        world.finish(pushed(world, ref, commit)["name"], model=f"models:/m/{number}")
        world.settle()
    assert [run["inputs"]["it"] for run in world.get("/runs?workflow=serve-models")] == ["models:/m/2"]


def test_a_repeated_run_keeps_the_ref_of_the_first(world: triggering.World) -> None:
    assigned(world)
    first = pushed(world, FEATURE)
    world.finish(first["name"], model="models:/m/1")
    # The branch has moved: no ref is at the commit of the first run any more.
    pushed(world, FEATURE, B)
    for locked in (False, True):
        again = requested(world, f"/runs/{first['name']}/rerun", {"locked": locked})
        assert (step_names(again), again["ref"]) == (["train"], FEATURE)


def test_a_serving_step_that_is_requested_by_name_runs(world: triggering.World) -> None:
    assigned(world)
    first = pushed(world, FEATURE)
    world.finish(first["name"], model="models:/m/1")
    assert step_names(requested(world, f"/runs/{first['name']}/rerun", {"only": "serve"}))[-1] == "serve"


def test_a_preview_serves_under_a_name_of_its_own(world: triggering.World) -> None:
    assigned(world, E2E + "deploy: {preview: true}")
    run = pushed(world, FEATURE)
    assert step_names(run) == ["train", "serve"]
    with world.store.read() as session:
        plan = runs.get(session, run["name"]).plan or {}
    variables = {item["name"]: item["value"] for item in plan["steps"][1]["variables"]}
    assert variables["FUSEML_PREVIEW"] == [{"kind": "text", "text": deployment.preview_name(FEATURE)}]


class _Serving:
    """Serves nothing; records the applications that it is to remove."""

    splits = False
    servers: Collection[model_servers.Server] = model_servers.EMBEDDED

    def __init__(self) -> None:
        self.removed: list[str] = []

    def servable(self, spec: servings.ServingSpec) -> Collection[int]:
        return ()

    def check(self, spec: servings.ServingSpec) -> None:
        """Everything can be served."""

    def apply(self, spec: servings.ServingSpec) -> None:
        """Nothing is served."""

    def status(self, spec: servings.ServingSpec) -> servings.Status:
        return servings.Status("starting")

    def statuses(self, specs: Sequence[servings.ServingSpec]) -> Mapping[str, servings.Status]:
        return {spec.name: self.status(spec) for spec in specs}

    def reconcile(self, specs: Sequence[servings.ServingSpec]) -> None:
        """Nothing is served."""

    def remove(self, name: str) -> None:
        self.removed.append(name)


def test_a_preview_ends_with_its_ref(server: githost.Server, clone: githost.Clone, tmp_path: pathlib.Path) -> None:
    housekeeper = test_missed_pushes.Housekeeper(server.host, tmp_path)
    serving = _Serving()
    deps = dataclasses.replace(housekeeper.deps, serving={"fuseml-serving": serving})
    clone.git("push", "--quiet", "origin", "main:refs/heads/feature")
    applications_of = {"app-preview": deployment.preview_name(FEATURE), "gone": deployment.preview_name("refs/heads/gone"), "app": ""}
    with housekeeper.store.write() as session:
        for name, preview in applications_of.items():
            document = {"type": "predictor", "workflow": "w", "project": "workspace", "codeset": "mnist", "preview": preview}
            applications.put(session, name, {**document, "served_by": "fuseml-serving"}, triggering.NOON)

    def left() -> list[str]:
        previews.remove_previews(deps, test_missed_pushes.TICK)
        with housekeeper.store.read() as session:
            return [row.name for row in applications.all_applications(session)]

    assert (left(), serving.removed) == (["app", "app-preview"], ["gone"])
    clone.git("push", "--quiet", "origin", ":refs/heads/feature")
    assert (left(), serving.removed) == (["app"], ["gone", "app-preview"])
    assert left() == ["app"]
