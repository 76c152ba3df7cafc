"""Logs that stay when the engine has forgotten the run: kept whole, found from any offset, removed in the end, whoever dies in between."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

from functions.housekeeper import archive
from fuseml.contents import filesystem
from fuseml.domain import errors
from fuseml.runtime import clock
from fuseml.store import database, runs
from tests import commands
from tests.component.archiving import LINES, TICK, Engine, World


@pytest.fixture
def world(store: database.Database, tmp_path: pathlib.Path) -> World:
    return World(store, tmp_path)


def test_logs_are_the_same_before_and_after_the_pods_are_gone(world: World) -> None:
    run_id = world.run("w-1", train="succeeded", serve="failed", never="skipped")
    steps = ("train", "serve", "never")
    before = {(step, offset): world.log("w-1", step, offset) for step in ("train", "serve") for offset in (0, 3, 100)}
    archive.archive_logs(world.house(), TICK)
    assert world.archived() == {"w-1/train": f"runs/{run_id}/train.log", "w-1/serve": f"runs/{run_id}/serve.log", "w-1/never": None}
    world.engine.forget(run_id)
    world.engine.asked = 0
    assert {key: world.log("w-1", *key) for key in before if key[1] != 100} == {
        key: found for key, found in before.items() if key[1] != 100
    }
    assert world.log("w-1", "train", 100) == (b"", 100, True)
    assert world.engine.asked == 0
    assert world.log("w-1", steps[2]) == (b"", 0, True)


def test_who_follows_a_log_sees_no_gap_and_no_repetition_when_it_moves(world: World) -> None:
    run_id = world.run("w-1", state="running", train="running")
    whole = b"".join(b"line %d\n" % number for number in range(400_000))
    world.engine.written[run_id, "train"] = whole
    seen, offset, complete, pieces = b"", 0, False, 0
    while not complete:
        data, offset, complete = world.log("w-1", "train", offset)
        seen, pieces = seen + data, pieces + 1
        if pieces == 2:
            # It ends, and moves, while there is more to read.
            with world.store.write() as session:
                runs.steps(session, [run_id])[0].state = "succeeded"
            archive.archive_logs(world.house(), TICK)
            world.engine.forget(run_id)
    assert pieces > 3
    assert seen == whole


def test_the_log_of_a_step_that_runs_stays_with_the_engine(world: World) -> None:
    world.run("w-1", state="running", train="running", prepare="succeeded")
    archive.archive_logs(world.house(), TICK)
    assert (world.archived()["w-1/train"], world.archived()["w-1/prepare"]) == (None, "runs/id-w-1/prepare.log")
    assert world.log("w-1", "train")[0] == b"train\n" + LINES


def test_the_log_of_a_step_whose_end_is_not_reported_is_kept_with_its_run(world: World) -> None:
    run_id = world.run("w-1", state="failed", train="cancelled")
    with world.store.write() as session:
        runs.steps(session, [run_id])[0].finished = None
    archive.archive_logs(world.house(), TICK)
    assert world.archived() == {"w-1/train": "runs/id-w-1/train.log"}


def test_what_the_engine_cannot_give_now_is_tried_again_and_keeps_nothing_else_back(world: World) -> None:
    world.run("w-1", train="succeeded")
    world.engine.complete = False
    archive.archive_logs(world.house(), TICK)
    assert not (world.folder / "contents" / "runs" / "id-w-1" / "train.log").exists()
    world.engine.complete, world.engine.away = True, "the service account may not"
    archive.archive_logs(world.house(), TICK)
    world.engine.away = ""
    world.run("w-2", train="succeeded")
    archive.archive_logs(world.house(), TICK)
    assert world.archived() == {"w-1/train": "runs/id-w-1/train.log", "w-2/train": "runs/id-w-2/train.log"}


def test_a_log_that_was_lost_is_told_and_not_looked_for_again(world: World) -> None:
    world.run("w-1", train="succeeded")
    world.engine.written.clear()
    gone = b"fuseml: the log of this step is kept no longer\n"
    assert world.log("w-1", "train") == (gone, len(gone), True)
    archive.archive_logs(world.house(), TICK)
    world.engine.asked = 0
    archive.archive_logs(world.house(), TICK)
    assert world.log("w-1", "train") == (gone, len(gone), True)
    # Who has read a part of it before it was lost.
    assert world.log("w-1", "train", 3) == (b"", 3, True)
    assert (world.engine.asked, world.archived()) == (0, {"w-1/train": ""})


def test_nothing_is_asked_twice_and_a_second_housekeeper_changes_nothing(world: World) -> None:
    world.run("w-1", train="succeeded")
    archive.archive_logs(world.house(), TICK)
    place = world.folder / "contents/runs/id-w-1/train.log"
    first = place.stat().st_mtime_ns
    asked = world.engine.asked
    archive.archive_logs(world.house(), TICK)
    assert (place.stat().st_mtime_ns, world.engine.asked) == (first, asked)


KILLED = """
import os, pathlib, signal, sys
from functions.housekeeper import archive
from fuseml.contents import filesystem
from fuseml.store import database
from tests.component import archiving

class Dying(filesystem.FileContents):
    def put(self, key, blocks):
        super().put(key, blocks)
        os.kill(os.getpid(), signal.SIGKILL)

folder = pathlib.Path(sys.argv[2])
world = archiving.World(database.Database(sys.argv[1]), folder, contents=Dying(folder / "contents"))
world.engine.written["id-w-1", "train"] = b"train\\n" + archiving.LINES
archive.archive_logs(world.house(), archiving.TICK)
"""


@pytest.mark.parametrize("pods", ["there", "gone"])
def test_a_death_between_put_and_mark_is_made_good(world: World, database_url: str, pods: str) -> None:
    world.run("w-1", train="succeeded")
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'shared'}"}
    commands.python(KILLED, database_url, world.folder, environment=environment, code=-signal.SIGKILL)
    assert world.archived() == {"w-1/train": None}
    if pods == "gone":
        world.engine.written.clear()
    archive.archive_logs(world.house(), TICK)
    assert world.archived() == {"w-1/train": "runs/id-w-1/train.log"}
    assert world.log("w-1", "train")[0] == b"train\n" + LINES


def test_contents_that_refuse_are_told_and_nothing_is_marked_or_forgotten(world: World) -> None:
    class Refusing(filesystem.FileContents):
        def put(self, key: str, blocks: object) -> int:
            raise errors.PermanentError("there is no bucket 'x'")

    world.run("w-1", finished=clock.ago(30 * 86400), train="succeeded")
    house = world.house(contents=Refusing(world.folder))
    with pytest.raises(errors.PermanentError, match="no bucket"):
        archive.archive_logs(house, TICK)
    archive.forget_runs(house, TICK)
    assert (world.archived(), world.engine.forgotten) == ({"w-1/train": None}, [])


def test_the_engine_forgets_a_run_some_days_after_its_end_when_its_logs_are_kept(world: World) -> None:
    old = world.run("w-1", finished=clock.ago(8 * 86400), train="succeeded", never="skipped")
    world.run("w-2", finished=clock.ago(6 * 86400), train="succeeded")
    world.run("w-3", state="running", train="running")
    archive.forget_runs(world.house(), TICK)
    assert world.engine.forgotten == []
    archive.archive_logs(world.house(), TICK)
    archive.forget_runs(world.house(engine_days=0), TICK)
    assert world.engine.forgotten == []
    archive.forget_runs(world.house(), TICK)
    archive.forget_runs(world.house(), TICK)
    assert world.engine.forgotten == [old]
    assert world.log("w-1", "train")[0] == b"train\n" + LINES


def test_without_contents_the_logs_go_with_the_run(world: World) -> None:
    old = world.run("w-1", finished=clock.ago(8 * 86400), train="succeeded")
    house = world.house(contents=None)
    for repair in (archive.archive_logs, archive.forget_runs, archive.remove_logs):
        repair(house, TICK)
    assert (world.engine.forgotten, world.archived()) == ([old], {"w-1/train": None})


def test_logs_are_removed_when_they_were_kept_for_long_enough(world: World) -> None:
    world.run("w-1", finished=clock.ago(366 * 86400), train="succeeded", never="skipped")
    world.run("w-2", finished=clock.ago(364 * 86400), train="succeeded")
    archive.archive_logs(world.house(), TICK)
    archive.remove_logs(world.house(log_days=0), TICK)
    assert world.log("w-1", "train")[0] == b"train\n" + LINES
    archive.remove_logs(world.house(), TICK)
    assert b"kept no longer" in world.log("w-1", "train")[0]
    assert world.log("w-2", "train")[0] == b"train\n" + LINES
    assert [path.name for path in (world.folder / "contents").rglob("*.log")] == ["train.log"]
    world.engine.asked = 0
    archive.archive_logs(world.house(), TICK)
    assert world.engine.asked == 0


def test_contents_that_somebody_emptied_say_so(world: World) -> None:
    world.run("w-1", train="succeeded")
    archive.archive_logs(world.house(), TICK)
    (world.folder / "contents/runs/id-w-1/train.log").unlink()
    assert b"kept no longer" in world.log("w-1", "train")[0]


def test_a_reused_step_shows_the_log_of_the_run_that_executed_it(world: World) -> None:
    world.run("w-1", train="succeeded")
    world.run("w-2", train="succeeded")
    with world.store.write() as session:
        step = runs.steps(session, ["id-w-2"])[0]
        step.reused_from, step.archived = "w-1", ""
    archive.archive_logs(world.house(), TICK)
    assert world.archived() == {"w-1/train": "runs/id-w-1/train.log", "w-2/train": ""}
    assert world.log("w-2", "train")[0] == b"train\n" + LINES


def test_each_step_is_asked_for_where_it_was_executed_and_every_execution_is_forgotten(world: World) -> None:
    world.run("w-1", state="failed", finished=clock.ago(8 * 86400), build="succeeded", serve="succeeded", announce="failed")
    with world.store.write() as session:
        runs.get(session, "w-1").execution = 2
        for step, execution in zip(runs.steps(session, ["id-w-1"]), (1, 2, 0), strict=True):
            step.execution = execution
            written = world.engine.written.pop(("id-w-1", step.name))
            if execution:
                world.engine.written["id-w-1" if execution == 1 else "id-w-1.2", step.name] = written
    assert world.log("w-1", "announce") == (b"", 0, True), "it was rejected: no engine ever had it"
    archive.archive_logs(world.house(), TICK)
    archive.forget_runs(world.house(), TICK)
    assert world.engine.forgotten == ["id-w-1", "id-w-1.2"]
    assert world.log("w-1", "serve")[0] == b"serve\n" + LINES


def test_a_run_that_the_engine_still_executes_is_not_forgotten_and_keeps_no_other(world: World) -> None:
    class Busy(Engine):
        def forget(self, run_id: str) -> None:
            if run_id == "id-w-1":
                raise errors.ConflictError("the PipelineRun has not finished")
            super().forget(run_id)

    world.engine = Busy()
    for name in ("w-1", "w-2"):
        world.run(name, finished=clock.ago(8 * 86400), train="succeeded")
    archive.archive_logs(world.house(), TICK)
    archive.forget_runs(world.house(), TICK)
    assert world.engine.forgotten == ["id-w-2"]
