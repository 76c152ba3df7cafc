"""Workflows that artifacts start: by assignment or by the list in their document, once each, and never in a cycle."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import sqlmodel

from fuseml.domain import events
from fuseml.domain.workflows import lint
from fuseml.store import artifacts, lineage, runs
from fuseml.store.tables import decision_rows, outbox_rows, run_rows
from tests.component import triggering

A, B = "a" * 40, "b" * 40


def document(name: str, *patterns: str, takes: str = "model", output: str = "model") -> str:
    listed = f"on: {{patterns: [{', '.join(repr(pattern) for pattern in patterns)}]}}" if patterns else ""
    item = "{name: code, type: codeset}" if takes == "codeset" else f"{{name: it, type: {takes}}}"
    use = "{codeset: {name: code}}" if takes == "codeset" else '{name: it, value: "{{ inputs.it }}"}'
    return f"""
name: {name}
inputs: [{item}]
{listed}
steps:
  - name: step
    image: shell:1
    inputs: [{use}]
    outputs: [{{name: {output}}}]
"""


def both(name: str, pattern: str, takes: str = "model") -> str:
    """A workflow that takes an artifact and a codeset."""
    text = document(name, pattern, takes=takes).replace("inputs: [{name: it,", "inputs: [{name: code, type: codeset}, {name: it,", 1)
    return text.replace("inputs: [{name: it, value", "inputs: [{codeset: {name: code}}, {name: it, value", 1)


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    system.workflow(document("train", takes="codeset"))
    system.assign("train", "code://p/code")
    system.settle()
    yield system
    system.store.close()


def train(world: triggering.World, commit: str = A, model: str = "models:/m/1") -> None:
    """A run of `train` that produces a model."""
    world.push(commit)
    world.settle()
    [run] = world.get(f"/runs?workflow=train&commit={commit}")
    world.finish(run["name"], model=model)
    world.settle()


def test_a_scored_dataset_is_an_artifact_with_its_model_and_code(world: triggering.World) -> None:
    world.workflow(document("score", "model://*", output="dataset"))
    world.workflow(document("publish", "dataset://p/*", takes="dataset"))
    train(world)
    address, digest = "dataset://p/scored/0123456789ab", "sha256:" + "01" * 32
    outputs = {"dataset": address, "uri": "s3://bucket/scored.csv", "digest": digest, "rows": "40"}
    world.finish("score-1", **outputs, other="dataset://elsewhere/scored/1")
    world.settle()
    [recorded] = world.get("/artifacts?kind=dataset")
    assert (recorded["address"], recorded["run"]) == (address, "score-1")
    assert recorded["metadata"] == {"uri": "s3://bucket/scored.csv", "digest": digest, "rows": "40"}
    with world.store.read() as session:
        edges = {(edge.source, edge.target, edge.run) for edge in lineage.neighbourhood(session, address, "both", 1, 100).edges}
    assert edges == {("model://p/m/1", address, "score-1")}
    [run] = world.get("/runs?workflow=publish")
    assert run["inputs"] == {"it": address}
    world.finish(run["name"], dataset="dataset://p/published/1")
    world.settle()
    with world.store.read() as session:
        assert (address, "dataset://p/published/1") in {
            (edge.source, edge.target) for edge in lineage.neighbourhood(session, address, "both", 1, 100).edges
        }


@pytest.mark.parametrize("stored", [None, "", "x", f"sha256:{'0' * 63}"])
def test_the_first_digest_of_a_model_stays_and_other_text_is_none(world: triggering.World, stored: str | None) -> None:
    first, later = (f"sha256:{character * 64}" for character in "12")

    def digest() -> object:
        [recorded] = world.get("/artifacts?kind=model")
        return recorded["metadata"].get("digest")

    def tag(value: str | None) -> None:
        tagged = events.ModelTagged(extension="p", name="m", version="1", key="fuseml.digest", value=value, delivery=str(value))
        world.publish(events.event(tagged, triggering.NOON))
        world.settle()

    def register(**tags: str) -> None:
        registered = events.ModelRegistered(extension="p", name="m", version="1", tags=tags)
        world.publish(events.event(registered, triggering.NOON))
        world.settle()

    register(**{"fuseml.digest": stored or "x"})
    tag(stored)
    assert digest() is None
    # The stored text of a version that did not check it.
    with world.store.write() as session:
        row = artifacts.get(session, "model://p/m/1")
        row.details = {**row.details, "digest": stored}
        session.add(row)
        assert artifacts.digest(session, "model://p/m/1") is None
    tag(first)
    assert digest() == first
    tag(later)
    register(**{"fuseml.digest": later})
    assert digest() == first


def test_a_dataset_waits_for_the_outputs_that_its_step_has_read(world: triggering.World) -> None:
    steps = """
  - {name: fit, image: "shell:1", outputs: [{name: model}]}
  - {name: score, image: "shell:1", inputs: [{name: model, value: "{{ steps.fit.outputs.model }}"}], outputs: [{name: dataset}]}
"""
    world.workflow(f"name: both\ninputs: [{{name: it, type: model, default: none}}]\non: {{patterns: ['model://*']}}\nsteps:{steps}")
    train(world)
    address = "dataset://p/scored/1"
    finished = events.RunStepFinished(
        run="both-1", workflow="both", project="p", step="score", state="succeeded", outputs={"dataset": address}
    )
    event = events.event(finished, triggering.NOON)
    assert world.reply_to("artifacts", event).status_code >= 500
    with world.store.write() as session:
        run = runs.get(session, "both-1")
        [fit] = [step for step in runs.steps(session, [run.id]) if step.name == "fit"]
        fit.outputs = {"model": "models:/m/2"}
        session.add(fit)
    assert world.reply_to("artifacts", event).status_code < 300
    with world.store.read() as session:
        assert [edge.source for edge in lineage.neighbourhood(session, address, "both", 1, 100).edges] == ["model://p/m/2"]


@pytest.mark.parametrize("pattern", ["model://*", "model://p/*", "model://p/m"])
def test_a_listed_artifact_starts_the_workflow_without_an_assignment(world: triggering.World, pattern: str) -> None:
    world.workflow(document("serve", pattern))
    world.workflow(document("elsewhere", "model://other/*", "dataset://*"))
    train(world)
    [run] = world.get("/runs?workflow=serve")
    assert (run["project"], run["inputs"], run["caused_by"]) == ("p", {"it": "models:/m/1"}, "train-1")
    assert (run["trigger"]["kind"], run["trigger"]["artifact"]) == ("artifact.recorded", "model://p/m/1")
    assert [item["name"] for item in world.get("/runs?caused_by=train-1")] == ["serve-1"]
    assert world.get("/runs?workflow=elsewhere") == []


def test_one_artifact_starts_one_run_of_a_workflow_however_often_it_matches(world: triggering.World) -> None:
    world.workflow(document("serve", "model://*", "model://p/*"))
    for pattern in ("model://*", "model://p/m"):
        world.assign("serve", pattern)
    train(world)
    recorded = events.ArtifactRecorded(address="model://p/m/1", kind="model", project="p", name="m", version="1", run="train-1")
    with world.store.write() as session:
        for row in session.exec(sqlmodel.select(outbox_rows.HandledEvent)):
            session.delete(row)
    world.deliver(events.event(recorded, triggering.NOON))
    world.settle()
    assert len(world.get("/runs?workflow=serve")) == 1
    train(world, B, "models:/m/2")
    assert [run["inputs"]["it"] for run in world.get("/runs?workflow=serve")] == ["models:/m/2", "models:/m/1"]


def test_the_same_version_in_two_projects_is_two_artifacts(world: triggering.World) -> None:
    world.workflow(document("serve", "model://*"))
    for project in ("p", "q"):
        recorded = events.ArtifactRecorded(address=f"model://{project}/m/1", kind="model", project=project, name="m", version="1")
        world.publish(events.event(recorded, triggering.NOON))
    world.settle()
    assert sorted(run["project"] for run in world.get("/runs?workflow=serve")) == ["p", "q"]


def test_a_workflow_is_not_started_by_an_artifact_of_its_own(world: triggering.World) -> None:
    world.workflow(document("tune", "model://*"))
    train(world)
    world.finish("tune-1", model="models:/m/2")
    world.settle()
    assert list(world.states()) == ["train-1", "tune-1"]


@pytest.mark.parametrize("by", ["patterns", "assignments"])
def test_workflows_that_start_each_other_stop_when_the_cycle_closes(world: triggering.World, by: str) -> None:
    for name in ("tune", "prune"):
        world.workflow(document(name, *(["model://*"] if by == "patterns" else [])))
        if by == "assignments":
            world.assign(name, "model://*")
    world.settle()
    train(world)
    for version in range(2, 30):
        queued = [name for name, state in world.states().items() if state == "queued"]
        if not queued:
            break
        world.finish(queued[0], model=f"models:/m/{version}")
        world.settle()
    # Each of them consumes the first model, and the one that the other derived from it.
    assert sorted(name.partition("-")[0] for name in world.states()) == ["prune", "prune", "train", "tune", "tune"]
    chains = {run["name"]: run["caused_by"] for run in world.get("/runs")}
    assert sorted(str(cause).partition("-")[0] for cause in chains.values()) == ["None", "prune", "train", "train", "tune"]
    with world.store.read() as session:
        reasons = {row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision)) if row.run is None}
    assert any("derives from tune-1, a run of the same workflow" in reason for reason in reasons)


def test_a_listed_codeset_starts_the_workflow_by_pushes(world: triggering.World) -> None:
    world.workflow(document("check", "code://p/*", takes="codeset", output="report"))
    world.push(A)
    world.push(B)
    world.settle()
    assert [run["commit"] for run in world.get("/runs?workflow=check")] == [B, A]


def test_an_artifact_without_an_input_for_it_still_starts_the_workflow(world: triggering.World) -> None:
    world.workflow(document("notify", "model://*").replace("type: model", "default: x"))
    train(world)
    [run] = world.get("/runs?workflow=notify")
    assert (run["inputs"], run["state"]) == ({}, "queued")


def test_patterns_without_an_effect_are_linted() -> None:
    mismatched = lint.lint_text(document("w", "model://*", takes="dataset"))
    assert any("no input has the type 'model'" in finding.message for finding in mismatched)
    for sound in (document("w", "model://*"), document("w", "code://*", takes="codeset"), both("w", "model://*")):
        assert [finding for finding in lint.lint_text(sound) if finding.path.startswith("on")] == []


# The code of a run that an artifact starts


def test_a_codeset_input_gets_the_code_that_the_artifact_derives_from(world: triggering.World) -> None:
    world.workflow(both("explain", "model://*"))
    train(world)
    [run] = world.get("/runs?workflow=explain")
    assert (run["codeset"], run["commit"], run["ref"]) == ("code", A, triggering.MAIN)
    assert run["inputs"] == {"code": f"code://p/code/{A}", "it": "models:/m/1"}
    # Its own artifacts derive from both.
    world.finish(run["name"], dataset="dataset://p/explained/1", model="")
    world.settle()
    with world.store.read() as session:
        edges = lineage.neighbourhood(session, "dataset://p/explained/1", "up", 1, 100).edges
    assert {edge.source for edge in edges} == {f"code://p/code/{A}", "model://p/m/1"}


def test_a_registered_dataset_brings_the_code_that_it_states(world: triggering.World) -> None:
    world.workflow(both("fit", "dataset://p/*", takes="dataset"))
    world.push(A)
    world.settle()
    world.codeset("other")
    register(world, address="dataset://p/rows/1", sources=[f"code://p/code/{A}"])
    [run] = world.get("/runs?workflow=fit")
    assert (run["commit"], run["inputs"]["it"]) == (A, "dataset://p/rows/1")


def test_an_artifact_without_code_starts_no_workflow_that_needs_some(world: triggering.World) -> None:
    world.workflow(both("fit", "dataset://p/*", takes="dataset"))
    world.push(A)
    world.push(B)
    world.settle()
    register(world, address="dataset://p/rows/1")
    # Of two, none is the one.
    register(world, address="dataset://p/rows/2", sources=[f"code://p/code/{A}", f"code://p/code/{B}"])
    assert world.get("/runs?workflow=fit") == []
    with world.store.read() as session:
        reasons = {row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision)) if row.workflow == "fit"}
    assert reasons == {f"dataset://p/rows/{n} derives from no codeset version, which the input 'code' needs" for n in (1, 2)}


# Settlement: every run that a run leads to has begun.


def test_a_run_is_settled_when_its_artifacts_have_started_the_runs_that_consume_them(world: triggering.World) -> None:
    world.workflow(document("serve", "model://*"))
    world.push(A)
    world.settle()
    assert world.run("train-1")["settled"] is False, "it runs"
    world.finish("train-1", model="models:/m/1")
    while world.events:
        # In any order of deliveries, it is not settled before the other run exists.
        assert world.run("train-1")["settled"] is (world.get("/runs?caused_by=train-1") != []) is False
        event = world.events.pop()
        world.deliver(event)
        if world.get("/runs?caused_by=train-1"):
            break
    assert world.run("train-1")["settled"] is True
    assert [run["settled"] for run in world.get("/runs")] == [False, True]


def test_a_run_without_artifacts_is_settled_when_its_steps_are_handled(world: triggering.World) -> None:
    world.push(A)
    world.settle()
    world.finish("train-1", "failed")
    assert world.run("train-1")["settled"] is False
    world.settle()
    assert world.run("train-1")["settled"] is True


def test_a_run_that_never_began_is_settled(world: triggering.World) -> None:
    world.push(A)
    world.settle()
    world.push(B)
    with world.store.write() as session:
        for row in session.exec(sqlmodel.select(run_rows.Run)):
            row.submitted = None
    assert world.functions["runs"].test_client().post("/runs/train-1/cancel").status_code == 202
    world.events = [event for event in world.events if event.type == events.RunCancelRequested.TYPE]
    for event in list(world.events):
        world.deliver(event)
    run = world.run("train-1")
    assert (run["state"], run["settled"]) == ("cancelled", True)


def test_a_run_with_an_unreported_step_is_settled_after_a_bounded_time(world: triggering.World) -> None:
    world.push(A)
    world.settle()
    world.finish("train-1")
    world.events.clear()
    with world.store.write() as session:
        [step] = session.exec(sqlmodel.select(run_rows.StepRun))
        step.finished = None
    assert world.run("train-1")["settled"] is False
    with world.store.write() as session:
        [row] = session.exec(sqlmodel.select(run_rows.Run))
        row.finished = triggering.NOON.replace("2026", "2020")
    assert world.run("train-1")["settled"] is True


def register(world: triggering.World, **descriptor: object) -> None:
    response = world.functions["artifacts"].test_client().post("/artifacts", json=descriptor)
    assert response.status_code == 201, response.text
    world.settle()


def test_a_registered_model_starts_a_workflow_with_the_address_that_its_store_knows(world: triggering.World) -> None:
    world.workflow(document("serve", "model://*"))
    register(world, address="model://p/onnx/1", format="onnx", location="s3://models/onnx/1")
    register(world, address="model://p/mlflow/1", format="mlflow", location="models:/mlflow/1")
    assert [run["inputs"] for run in world.get("/runs?workflow=serve")] == [{"it": "models:/mlflow/1"}, {"it": "model://p/onnx/1"}]


@pytest.mark.parametrize("format", ["mlflow", None])
@pytest.mark.parametrize("location", ["s3://models/wine/1", "runs:/0123/model", "models:/other/7"])
def test_a_run_gets_the_location_of_a_model_that_is_not_a_version_of_its_name(
    world: triggering.World, format: str | None, location: str
) -> None:
    world.workflow(document("serve", "model://*"))
    register(world, address="model://p/wine/1", location=location, **({"format": format} if format else {}))
    assert [run["inputs"] for run in world.get("/runs?workflow=serve")] == [{"it": location}]


@pytest.mark.parametrize("format", ["mlflow", None])
def test_a_model_without_a_location_starts_nothing_and_the_reason_is_recorded(world: triggering.World, format: str | None) -> None:
    world.workflow(document("serve", "model://*"))
    register(world, address="model://p/wine/1", **({"format": format} if format else {}))
    assert world.get("/runs?workflow=serve") == []
    with world.store.read() as session:
        [decision] = [row for row in session.exec(sqlmodel.select(decision_rows.Decision)) if row.workflow == "serve"]
    assert decision.reason.startswith("model://p/wine/1 has no location")


def test_an_external_artifact_starts_nothing_and_the_reason_is_recorded(world: triggering.World) -> None:
    world.workflow(document("serve", "model://*"))
    register(world, address="model://p/elsewhere/1", external=True, location="https://example.com/model.onnx")
    assert world.get("/runs?workflow=serve") == []
    with world.store.read() as session:
        reasons = [row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision))]
    assert "model://p/elsewhere/1 is external: a reference starts nothing" in reasons
