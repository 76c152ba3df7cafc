"""Runnables that builders make: registered by the end of their step, once, in the next version when they change."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest
import sqlmodel

from fuseml.domain import errors, events
from fuseml.domain.runnables import descriptor
from fuseml.store import artifacts, lineage, runnables
from fuseml.store.tables import decision_rows
from fuseml.usecases import runnables as registry
from tests.component import triggering
from tests.component.test_artifact_triggers import document

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    system = triggering.World(tmp_path)
    system.workflow(document("build", takes="codeset", output="runnables"))
    system.assign("build", "code://p/code")
    system.settle()
    yield system
    system.store.close()


def made(image: str) -> str:
    trainer = {
        "name": "code-trainer",
        "like": "trainer",
        "inputs": [{"name": "image", "default": image}, {"name": "alpha", "type": "number"}],
    }
    return json.dumps([trainer, {"name": "code-predictor", "like": "predictor"}])


def build(world: triggering.World, commit: str, output: str) -> str:
    world.push(commit)
    world.settle()
    [run] = world.get(f"/runs?workflow=build&commit={commit}")
    world.finish(run["name"], runnables=output)
    world.settle()
    return str(run["name"])


def versions(world: triggering.World, name: str) -> list[tuple[str, str | None]]:
    with world.store.read() as session:
        return [(row.version, row.run) for row in runnables.versions(session, "p", name)]


def test_a_builder_registers_its_runnables_and_they_derive_from_the_code(world: triggering.World) -> None:
    run = build(world, A, made("trainer:1"))
    assert (versions(world, "code-trainer"), versions(world, "code-predictor")) == ([("1.0.0", run)], [("1.0.0", run)])
    listed = world.get("/artifacts?kind=runnable&project=p")
    assert [(item["address"], item["run"], item["step"]) for item in listed] == [
        ("runnable://p/code-predictor/1.0.0", run, "step"),
        ("runnable://p/code-trainer/1.0.0", run, "step"),
    ]
    with world.store.read() as session:
        near = lineage.neighbourhood(session, "runnable://p/code-trainer/1.0.0", "up", 1, 10)
    assert [(edge.source, edge.run) for edge in near.edges] == [(f"code://p/code/{A}", run)]


def test_unchanged_content_keeps_its_version_and_changed_content_gets_the_next(world: triggering.World) -> None:
    first = build(world, A, made("trainer:1"))
    build(world, B, made("trainer:1"))
    third = build(world, C, made("trainer:2"))
    assert versions(world, "code-trainer") == [("1.1.0", third), ("1.0.0", first)]
    assert versions(world, "code-predictor") == [("1.0.0", first)]
    again = build(world, "d" * 40, made("trainer:1"))
    assert versions(world, "code-trainer")[0] == ("1.2.0", again), "the highest version is the one that was built last"


def test_a_repeated_report_registers_nothing_again(world: triggering.World) -> None:
    run = build(world, A, made("trainer:1"))
    report = events.RunStepFinished(
        run=run, workflow="build", project="p", step="step", state="succeeded", outputs={"runnables": made("trainer:2")}
    )
    world.deliver(events.event(report, triggering.NOON))
    world.settle()
    assert versions(world, "code-trainer") == [("1.0.0", run)]


@pytest.mark.parametrize("output", ["{", '[{"name": "trainer", "image": "i:1"}]', '[{"name": "x", "like": "y"}]'])
def test_runnables_that_are_not_valid_are_left_out_with_the_reason(world: triggering.World, output: str) -> None:
    run = build(world, A, output)
    with world.store.read() as session:
        reasons = session.exec(sqlmodel.select(decision_rows.Decision.reason).where(decision_rows.Decision.run == run)).all()
    assert any("is not registered" in reason for reason in reasons)
    assert world.get("/artifacts?kind=runnable") == []


def reasons(world: triggering.World, run: str) -> str:
    with world.store.read() as session:
        found = session.exec(sqlmodel.select(decision_rows.Decision.reason).where(decision_rows.Decision.run == run)).all()
    return "\n".join(found)


def test_one_bad_descriptor_drops_no_other(world: triggering.World) -> None:
    output = json.dumps([{"name": "trainer", "image": "i:1"}, {"name": "x", "like": "y"}, {"name": "good", "image": "i:1"}])
    run = build(world, A, output)
    assert versions(world, "good") == [("1.0.0", run)]
    assert reasons(world, run).count("is not registered") == 2


def test_a_project_that_is_gone_is_a_decision(world: triggering.World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise errors.NotFoundError("there is no project 'p'")

    monkeypatch.setattr(registry, "register_made", gone)
    assert "there is no project" in reasons(world, build(world, A, made("trainer:1")))


def test_a_step_replaces_no_runnable_of_a_person_or_of_another_codeset(world: triggering.World) -> None:
    by_hand = descriptor.load("name: code-trainer\nversion: 0.9.0\nimage: mine:1\n")
    with world.store.write() as session:
        registry.register(session, "p", by_hand, by="ada")
    run = build(world, A, made("trainer:1"))
    assert versions(world, "code-trainer") == [("0.9.0", None)]
    assert f"code-trainer of p was registered by ada, and is not replaced by a step of {run}" in reasons(world, run)
    world.codeset("other")
    world.assign("build", "code://p/other")
    world.push(B, codeset="other")
    world.settle()
    [other] = world.get(f"/runs?workflow=build&commit={B}")
    world.finish(other["name"], runnables=json.dumps([{"name": "code-predictor", "image": "theirs:1"}]))
    world.settle()
    assert versions(world, "code-predictor") == [("1.0.0", run)]
    assert f"was registered by {run}" in reasons(world, other["name"])


def test_a_run_of_a_ref_that_is_not_deployed_registers_nothing(world: triggering.World) -> None:
    build(world, A, made("trainer:1"))
    world.push(B, ref="refs/heads/feature")
    world.settle()
    [run] = world.get(f"/runs?workflow=build&commit={B}")
    world.finish(run["name"], runnables=made("trainer:2"))
    world.settle()
    assert [version for version, _ in versions(world, "code-trainer")] == ["1.0.0"]
    assert "only runs of main register runnables" in reasons(world, run["name"])


def test_the_address_of_a_plain_artifact_is_skipped(world: triggering.World) -> None:
    first = build(world, A, made("trainer:1"))
    plain = artifacts.Artifact(
        address="runnable://p/code-trainer/1.1.0",
        kind="runnable",
        project="p",
        name="code-trainer",
        version="1.1.0",
        digest=f"sha256:{'1' * 64}",
        details={},
        created=triggering.NOON,
    )
    with world.store.write() as session:
        artifacts.record(session, plain)
    second = build(world, B, made("trainer:2"))
    assert versions(world, "code-trainer") == [("1.2.0", second), ("1.0.0", first)]
