"""The fate of unfinished runs when the record that they belong to is removed: a workflow, an assignment, a codeset."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from fuseml.domain import events
from fuseml.runtime import catalog, clock
from fuseml.store import runs
from tests.component import triggering
from tests.component.test_lost_runs import GROUPED


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    """One run in the engine, one that waits for it, and a run of another workflow on the same codeset."""
    system = triggering.World(tmp_path)
    system.workflow(GROUPED)
    system.workflow(GROUPED.replace("name: train", "name: other").replace("group: one", "group: two"))
    for name in ("train", "other"):
        system.assign(name, "code://p/code")
    for commit in ("a" * 40, "b" * 40):
        system.push(commit)
        system.settle()
    assert sorted(system.engine.submissions) == ["other-1", "train-1"]
    yield system
    system.store.close()


def delete(path: str) -> Callable[[triggering.World], None]:
    def call(world: triggering.World) -> None:
        response = world.functions["workflows"].test_client().delete(path)
        assert response.status_code == 204, response.text

    return call


def remove_codeset(world: triggering.World) -> None:
    world.events.append(events.event(events.CodesetRemoved(project="p", codeset="code"), clock.now()))


REMOVALS: dict[str, tuple[Callable[[triggering.World], None], str, set[str]]] = {
    "a workflow": (delete("/workflows/train?force=true"), "workflow train was deleted", {"train"}),
    "a workflow, by a client of the original's API": (delete("/workflows/train"), "workflow train was deleted", {"train"}),
    "an assignment": (delete("/workflows/assignments/train?pattern=code://p/code"), "", set()),
    "an assignment, with its runs": (
        delete("/workflows/assignments/train?codesetProject=p&codesetName=code&cancel=true"),
        "workflow train was unassigned from code://p/code",
        {"train"},
    ),
    "a codeset": (remove_codeset, "codeset p/code was deleted", {"train", "other"}),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_unfinished_runs_are_cancelled_or_continue(world: triggering.World, removal: str) -> None:
    remove, cause, workflows = REMOVALS[removal]
    with world.store.read() as session:
        executions = {row.name: row.id for row in runs.active(session)}
    before = dict(world.states())
    remove(world)
    world.settle()
    for name in before:
        is_cancelled = name.split("-")[0] in workflows
        if name in world.engine.submissions:
            # The engine confirms it; until then the run goes on.
            assert world.engine.cancelled.get(executions[name]) == (cause if is_cancelled else None)
            with world.store.read() as session:
                assert runs.get(session, name).cancelled == (cause if is_cancelled else None)
        else:
            run = world.run(name)
            assert (run["state"], run["cause"]) == (("cancelled", cause) if is_cancelled else ("queued", None))


def test_a_workflow_with_unfinished_runs_is_not_deleted_unless_forced(world: triggering.World) -> None:
    response = world.functions["workflows"].test_client().delete("/workflows/train", headers={catalog.CLIENT: "tests"})
    assert response.status_code == 409
    assert "2 active runs; wait for them or cancel them first, or force the deletion" in response.text
    world.settle()
    assert (world.states()["train-2"], world.engine.cancelled) == ("queued", {})


def test_a_deletion_of_a_missing_workflow_is_an_error_for_clients_that_know_it(world: triggering.World) -> None:
    client = world.functions["workflows"].test_client()
    assert client.delete("/workflows/none").status_code == 204
    assert client.delete("/workflows/none", headers={catalog.CLIENT: "tests"}).status_code == 404


def test_runs_of_a_codeset_that_was_registered_anew_go_on(world: triggering.World) -> None:
    removed = events.event(events.CodesetRemoved(project="p", codeset="code"), "2020-01-01T00:00:00.000000Z")
    world.events.append(removed)
    world.settle()
    assert (set(world.states().values()), world.engine.cancelled) == ({"queued"}, {})


def test_finished_runs_stay_as_they_are(world: triggering.World) -> None:
    world.finish("train-1")
    world.settle()
    remove_codeset(world)
    world.settle()
    assert world.states()["train-1"] == "succeeded"
