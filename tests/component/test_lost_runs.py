"""A run ends whatever happens to its record in the engine: removed by hand, by a clean-up of the namespace, or damaged."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import app as tracker_app
from functions.run_tracker import deps as tracker_deps
from fuseml import engines
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import clock
from fuseml.store import runs
from tests import event_keys
from tests.component import triggering
from tests.contract.engines import UnderTest, local_engine
from tests.waiting import wait_until

LOSS = "its PipelineRun was deleted before its end was reported; rerun the run"
GROUPED = """
name: train
inputs:
  - {name: code, type: codeset}
concurrency: {group: one}
steps:
  - {name: step, image: fuseml.local/shell, script: "echo begun; sleep 60"}
"""


class World(triggering.World):
    """Also with `run_tracker` and `housekeeper`; `tick` is one sweep."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self._git = EmbeddedGitHost(folder / "git", "http://git")
        self._ticks = itertools.count()
        self.use(self.engine)
        self.workflow(GROUPED)
        self.assign("train", "code://p/code")

    def use(self, engine: engines.Engine) -> None:
        """Replace the engine of the functions."""
        common: dict[str, Any] = {"store": self.store, "publisher": self, "signer": event_keys.SIGNER, "engine": engine}
        self.functions["run-tracker"] = tracker_app.create_app(tracker_deps.Deps(**common))
        deps: dict[str, Any] = {**common, "git": self._git, "keyring": self.keyring}
        self.functions["dispatcher"] = dispatcher_app.create_app(dispatcher_deps.Deps(**deps, zone="", namespace="workloads"))
        self.functions["housekeeper"] = housekeeper_app.create_app(
            housekeeper_deps.Deps(**deps, check=lambda *_: ())  # type: ignore[arg-type]
        )

    def tick(self) -> None:
        self.deliver_to("housekeeper", events.Event(events.TICK, "/tick", str(next(self._ticks)), None, clock.now(), {}))
        self.settle()

    def execution(self, name: str) -> str:
        with self.store.read() as session:
            row = runs.get(session, name)
            return identity.execution_id(row.id, row.execution)

    def cancel(self, name: str) -> None:
        response = self.functions["runs"].test_client().post(f"/runs/{name}/cancel?reason=by+Ada")
        assert response.status_code == 202, response.text


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[World]:
    """Two runs of one concurrency group: the first is in the engine, the second waits for it."""
    system = World(tmp_path)
    for commit in ("a" * 40, "b" * 40):
        system.push(commit)
        system.settle()
    assert system.engine.submissions == ["train-1"]
    yield system
    system.store.close()


def test_the_sweep_ends_a_lost_run_with_its_cause_and_the_next_of_its_group_begins(world: World) -> None:
    world.engine.losses[world.execution("train-1")] = LOSS
    world.tick()
    run = world.run("train-1")
    assert (run["state"], run["cause"]) == ("failed", LOSS)
    assert [step["state"] for step in run["steps"]] == ["skipped"]
    assert (world.engine.submissions, world.states()["train-2"]) == (["train-1", "train-2"], "queued")
    world.tick()
    assert world.run("train-1") == run


def test_a_lost_run_can_be_resumed(world: World) -> None:
    world.engine.losses[world.execution("train-1")] = LOSS
    world.tick()
    response = world.functions["runs"].test_client().post("/runs/train-1/resume", json={})
    assert response.status_code == 202, response.text
    world.settle()
    assert "train-3" in world.states()


@pytest.mark.parametrize("order", ["lost, then cancelled", "cancelled, then lost"])
def test_a_cancellation_wins_over_the_loss(world: World, order: str) -> None:
    if order == "lost, then cancelled":
        world.engine.losses[world.execution("train-1")] = LOSS
        world.cancel("train-1")
        world.settle()
    else:
        world.cancel("train-1")
        world.settle()
        assert world.run("train-1")["state"] == "queued", "the engine has not confirmed it"
        world.engine.losses[world.execution("train-1")] = LOSS
        world.tick()
    run = world.run("train-1")
    assert (run["state"], run["cause"]) == ("cancelled", "by Ada")
    assert world.engine.submissions == ["train-1", "train-2"]


def test_the_sweep_passes_a_requested_cancellation_on_again(world: World) -> None:
    world.cancel("train-1")
    world.settle()
    world.engine.cancelled.clear()
    world.tick()
    assert world.engine.cancelled == {world.execution("train-1"): "by Ada"}


def test_a_run_whose_submission_is_under_way_is_not_lost(world: World) -> None:
    with world.store.write() as session:
        runs.get(session, "train-1").submitted = None
    world.engine.losses[world.execution("train-1")] = LOSS
    world.tick()
    assert world.run("train-1")["state"] == "queued"


def test_a_run_that_advances_while_the_engine_is_asked_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(run_id: str) -> str:
        with world.store.write() as session:
            row = runs.get(session, "train-1")
            row.execution, row.submitted = 2, None
        return LOSS

    monkeypatch.setattr(world.engine, "loss", advance)
    world.tick()
    assert world.run("train-1")["state"] == "queued"


@pytest.mark.parametrize("error", [errors.TemporaryError("away"), errors.PermanentError("no right")])
def test_a_run_is_not_lost_while_the_engine_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, error: errors.FusemlError
) -> None:
    def fail(run_id: str) -> str:
        raise error

    monkeypatch.setattr(world.engine, "loss", fail)
    world.tick()
    assert world.run("train-1")["state"] == "queued"


def test_an_error_on_one_run_does_not_keep_the_others_from_being_observed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.execution("train-1")
    world.workflow(GROUPED.replace("name: train", "name: other").replace("one", "two"))
    world.assign("other", "code://p/code")
    world.settle()
    second = world.execution("other-1")
    world.engine.losses[second] = LOSS
    observe = world.engine.observe

    def broken(run_id: str) -> Any:
        if run_id == first:
            raise errors.PermanentError("its object has an unknown shape")
        return observe(run_id)

    monkeypatch.setattr(world.engine, "observe", broken)
    world.tick()
    assert (world.run("train-1")["state"], world.run("other-1")["state"]) == ("queued", "failed")


def _replace(path: pathlib.Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


REMOVALS: dict[str, Callable[[pathlib.Path], object]] = {
    "the folder is removed": shutil.rmtree,
    "the plan is removed": lambda folder: (folder / "plan.json").unlink(),
    "the record is removed": lambda folder: (folder / "run.json").unlink(),
}
DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "the plan is empty": lambda folder: _replace(folder / "plan.json", ""),
    "the record is cut off": lambda folder: _replace(folder / "run.json", '{"state": "runn'),
    "a step's record is no JSON": lambda folder: _replace(folder / "steps" / "step" / "step.json", "<html>"),
    "the plan is of another release": lambda folder: _replace(folder / "plan.json", json.dumps({"id": "x", "unknown": 1})),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_a_run_whose_local_records_are_removed_ends_and_its_process_too(tmp_path: pathlib.Path, removal: str) -> None:
    with local_engine(tmp_path / "engine", grace=0.1) as under_test:
        system = World(tmp_path)
        system.use(under_test.engine)
        folder, group = _start(system, under_test)
        REMOVALS[removal](folder)
        _check_end(system, folder)
        # A cancellation reaches the process of a run without records at once; else the engine's next look at the run does.
        under_test.engine.cancel(folder.name, "its run is lost")
        wait_until(lambda: not _is_alive(group), "the end of the step's process")
        under_test.engine.forget(folder.name)
        assert not folder.exists()
    system.store.close()


@pytest.mark.parametrize("damage", REMOVALS | DAMAGES)
def test_a_run_whose_local_records_are_lost_while_the_server_is_away_ends(tmp_path: pathlib.Path, damage: str) -> None:
    system, snapshot = World(tmp_path), tmp_path / "snapshot"
    with local_engine(tmp_path / "engine") as under_test:
        system.use(under_test.engine)
        folder, _ = _start(system, under_test)
        shutil.copytree(folder, snapshot)
    # As after a kill: a clean stop records the end of the run.
    shutil.rmtree(folder)
    snapshot.rename(folder)
    (REMOVALS | DAMAGES)[damage](folder)
    with local_engine(tmp_path / "engine") as under_test:
        system.use(under_test.engine)
        _check_end(system, folder)
        with contextlib.suppress(errors.NotFoundError):
            assert under_test.engine.logs(folder.name, "step").complete, "the archive would wait for the rest"
        under_test.engine.forget(folder.name)
        assert not folder.exists()
    system.store.close()


def test_a_failure_of_the_machine_is_no_loss(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with local_engine(tmp_path / "engine") as under_test:
        system = World(tmp_path)
        system.use(under_test.engine)
        folder, _ = _start(system, under_test)
        with monkeypatch.context() as patch:
            patch.setattr("fuseml.engines.step_files.read", exhausted)
            with pytest.raises(errors.TemporaryError, match="Too many open files"):
                under_test.engine.observe(folder.name)
            system.tick()
        assert system.run("train-1")["state"] == "running"
    system.store.close()


def _start(system: World, under_test: UnderTest) -> tuple[pathlib.Path, int]:
    """The folder of a run whose step has begun, and the process group of the step."""
    system.push("a" * 40)
    system.settle()
    execution = system.execution("train-1")
    assert under_test.root is not None
    folder = under_test.root / execution
    wait_until(
        lambda: (folder / "steps" / "step" / "pid").exists() and under_test.engine.logs(execution, "step").data == b"begun\n",
        "the step to begin",
    )
    for event in under_test.engine.observe(execution):
        system.deliver_to("run-tracker", event)
    assert system.run("train-1")["state"] == "running"
    return folder, int((folder / "steps" / "step" / "pid").read_text())


def _check_end(system: World, folder: pathlib.Path) -> None:
    system.tick()
    run = system.run("train-1")
    assert (run["state"], [step["state"] for step in run["steps"]]) == ("failed", ["cancelled"])
    assert str(folder) in run["cause"]
    assert run["cause"].endswith("; rerun the run")


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
