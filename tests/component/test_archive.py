"""Archived logs: complete, readable from any offset after the engine has forgotten the run, and removed after their retention."""

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
from tests.component.archiving import LINES, TICK, Engine, Installation


@pytest.fixture
def installation(store: database.Database, tmp_path: pathlib.Path) -> Installation:
    return Installation(store, tmp_path)


def test_a_log_is_the_same_before_and_after_its_pod_is_gone(installation: Installation) -> None:
    run_id = installation.run("w-1", train="succeeded", serve="failed", never="skipped")
    steps = ("train", "serve", "never")
    before = {(step, offset): installation.log("w-1", step, offset) for step in ("train", "serve") for offset in (0, 3, 100)}
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.archived() == {"w-1/train": f"runs/{run_id}/train.log", "w-1/serve": f"runs/{run_id}/serve.log", "w-1/never": None}
    installation.engine.forget(run_id)
    installation.engine.log_requests = 0
    assert {key: installation.log("w-1", *key) for key in before if key[1] != 100} == {
        key: log for key, log in before.items() if key[1] != 100
    }
    assert installation.log("w-1", "train", 100) == (b"", 100, True)
    assert installation.engine.log_requests == 0
    assert installation.log("w-1", steps[2]) == (b"", 0, True)


def test_a_followed_log_has_no_gap_and_no_repetition_when_it_is_archived(installation: Installation) -> None:
    run_id = installation.run("w-1", state="running", train="running")
    whole = b"".join(b"line %d\n" % number for number in range(400_000))
    installation.engine.written[run_id, "train"] = whole
    seen, offset, complete, pieces = b"", 0, False, 0
    while not complete:
        data, offset, complete = installation.log("w-1", "train", offset)
        seen, pieces = seen + data, pieces + 1
        if pieces == 2:
            # The step ends and its log is archived while there is more to read.
            with installation.store.write() as session:
                runs.steps(session, [run_id])[0].state = "succeeded"
            archive.archive_logs(installation.housekeeper(), TICK)
            installation.engine.forget(run_id)
    assert pieces > 3
    assert seen == whole


def test_an_archived_log_is_kept_once(installation: Installation) -> None:
    run_id = installation.run("w-1", train="succeeded", serve="failed", never="skipped")
    archive.archive_logs(installation.housekeeper(), TICK)
    assert sorted(installation.engine.dropped) == [(run_id, "serve"), (run_id, "train")]
    assert installation.log("w-1", "train") == (b"train\n" + LINES, 6 + len(LINES), True)


def test_a_reader_that_meets_a_log_between_engine_and_archive_gets_it(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installation.run("w-1", train="succeeded")
    logs = installation.engine.logs

    def archived_meanwhile(*arguments: object) -> object:
        monkeypatch.setattr(installation.engine, "logs", logs)
        archive.archive_logs(installation.housekeeper(), TICK)
        return logs(*arguments)

    monkeypatch.setattr(installation.engine, "logs", archived_meanwhile)
    assert installation.log("w-1", "train") == (b"train\n" + LINES, 6 + len(LINES), True)


def test_an_engine_that_cannot_drop_a_log_delays_nothing(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run_id: str, step: str) -> None:
        raise errors.TemporaryError("away")

    monkeypatch.setattr(installation.engine, "drop_log", fail)
    installation.run("w-1", train="succeeded", serve="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    assert None not in installation.archived().values()


def test_the_log_of_a_running_step_stays_with_the_engine(installation: Installation) -> None:
    installation.run("w-1", state="running", train="running", prepare="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    assert (installation.archived()["w-1/train"], installation.archived()["w-1/prepare"]) == (None, "runs/id-w-1/prepare.log")
    assert installation.log("w-1", "train")[0] == b"train\n" + LINES


def test_the_log_of_a_step_whose_end_is_not_reported_is_archived_with_its_run(installation: Installation) -> None:
    run_id = installation.run("w-1", state="failed", train="cancelled")
    with installation.store.write() as session:
        runs.steps(session, [run_id])[0].finished = None
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.archived() == {"w-1/train": "runs/id-w-1/train.log"}


def test_a_log_that_the_engine_cannot_serve_now_is_retried_and_blocks_no_other(installation: Installation) -> None:
    installation.run("w-1", train="succeeded")
    installation.engine.complete = False
    archive.archive_logs(installation.housekeeper(), TICK)
    assert not (installation.folder / "contents" / "runs" / "id-w-1" / "train.log").exists()
    installation.engine.complete, installation.engine.away = True, "the service account may not"
    archive.archive_logs(installation.housekeeper(), TICK)
    installation.engine.away = ""
    installation.run("w-2", train="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.archived() == {"w-1/train": "runs/id-w-1/train.log", "w-2/train": "runs/id-w-2/train.log"}


def test_a_lost_log_is_reported_and_not_requested_again(installation: Installation) -> None:
    installation.run("w-1", train="succeeded")
    installation.engine.written.clear()
    gone = b"fuseml: the log of this step is kept no longer\n"
    assert installation.log("w-1", "train") == (gone, len(gone), True)
    archive.archive_logs(installation.housekeeper(), TICK)
    installation.engine.log_requests = 0
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.log("w-1", "train") == (gone, len(gone), True)
    # A reader of a part of it, before it was lost.
    assert installation.log("w-1", "train", 3) == (b"", 3, True)
    assert (installation.engine.log_requests, installation.archived()) == (0, {"w-1/train": ""})


def test_an_archived_log_is_not_requested_again(installation: Installation) -> None:
    installation.run("w-1", train="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    file = installation.folder / "contents/runs/id-w-1/train.log"
    first = file.stat().st_mtime_ns
    log_requests = installation.engine.log_requests
    archive.archive_logs(installation.housekeeper(), TICK)
    assert (file.stat().st_mtime_ns, installation.engine.log_requests) == (first, log_requests)


KILLED = """
import os, pathlib, signal, sys
from functions.housekeeper import archive
from fuseml.contents import filesystem
from fuseml.store import database
from tests.component import archiving

class Killed(filesystem.FileContents):
    def put(self, key, blocks):
        super().put(key, blocks)
        os.kill(os.getpid(), signal.SIGKILL)

folder = pathlib.Path(sys.argv[2])
installation = archiving.Installation(database.Database(sys.argv[1]), folder, contents=Killed(folder / "contents"))
installation.engine.written["id-w-1", "train"] = b"train\\n" + archiving.LINES
archive.archive_logs(installation.housekeeper(), archiving.TICK)
"""


@pytest.mark.parametrize("pods", ["there", "gone"])
def test_a_crash_between_the_put_and_its_record_is_repaired(installation: Installation, database_url: str, pods: str) -> None:
    installation.run("w-1", train="succeeded")
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'shared'}"}
    commands.python(KILLED, database_url, installation.folder, environment=environment, code=-signal.SIGKILL)
    assert installation.archived() == {"w-1/train": None}
    if pods == "gone":
        installation.engine.written.clear()
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.archived() == {"w-1/train": "runs/id-w-1/train.log"}
    assert installation.log("w-1", "train")[0] == b"train\n" + LINES


def test_a_refusal_of_the_contents_is_raised_and_no_run_is_forgotten(installation: Installation) -> None:
    class Refusing(filesystem.FileContents):
        def put(self, key: str, blocks: object) -> int:
            raise errors.PermanentError("there is no bucket 'x'")

    installation.run("w-1", finished=clock.ago(30 * 86400), train="succeeded")
    housekeeper = installation.housekeeper(contents=Refusing(installation.folder))
    with pytest.raises(errors.PermanentError, match="no bucket"):
        archive.archive_logs(housekeeper, TICK)
    archive.forget_runs(housekeeper, TICK)
    assert (installation.archived(), installation.engine.forgotten) == ({"w-1/train": None}, [])


def test_the_engine_forgets_a_run_days_after_its_end_once_its_logs_are_archived(installation: Installation) -> None:
    old = installation.run("w-1", finished=clock.ago(8 * 86400), train="succeeded", never="skipped")
    installation.run("w-2", finished=clock.ago(6 * 86400), train="succeeded")
    installation.run("w-3", state="running", train="running")
    archive.forget_runs(installation.housekeeper(), TICK)
    assert installation.engine.forgotten == []
    archive.archive_logs(installation.housekeeper(), TICK)
    archive.forget_runs(installation.housekeeper(engine_days=0), TICK)
    assert installation.engine.forgotten == []
    archive.forget_runs(installation.housekeeper(), TICK)
    archive.forget_runs(installation.housekeeper(), TICK)
    assert installation.engine.forgotten == [old]
    assert installation.log("w-1", "train")[0] == b"train\n" + LINES


def test_a_finished_run_leaves_the_engine_as_soon_as_its_logs_are_kept(installation: Installation) -> None:
    housekeeper = installation.housekeeper(engine_days=None)
    kept = installation.run("w-1", train="succeeded")
    failed = installation.run("w-2", state="failed", train="failed")
    installation.run("w-3", state="running", prepare="succeeded", train="running")
    unreported = installation.run("w-4", state="cancelled", train="cancelled")
    late = installation.run("w-5", state="cancelled", finished=clock.ago(2 * 3600), train="cancelled")
    with installation.store.write() as session:
        for run_id in (unreported, late):
            runs.steps(session, [run_id])[0].finished = None
    archive.forget_runs(housekeeper, TICK)
    assert installation.engine.forgotten == []
    archive.archive_logs(housekeeper, TICK)
    archive.forget_runs(housekeeper, TICK)
    archive.forget_runs(housekeeper, TICK)
    assert sorted(installation.engine.forgotten) == sorted([kept, failed, late])
    assert installation.log("w-1", "train")[0] == b"train\n" + LINES


def test_many_runs_whose_logs_are_not_kept_do_not_hold_up_the_others(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST", 2)
    for number in range(3):
        installation.run(f"lost-{number}", finished=clock.ago(3600 - number), train="succeeded")
    kept = installation.run("w-1", train="succeeded")
    with installation.store.write() as session:
        runs.steps(session, [kept])[0].archived = "runs/id-w-1/train.log"
    archive.forget_runs(installation.housekeeper(engine_days=None), TICK)
    assert installation.engine.forgotten == [kept]


def test_where_no_logs_are_kept_a_run_stays_with_the_engine_for_a_week(installation: Installation) -> None:
    old = installation.run("w-1", finished=clock.ago(8 * 86400), train="succeeded")
    installation.run("w-2", finished=clock.ago(6 * 86400), train="succeeded")
    archive.forget_runs(installation.housekeeper(contents=None, engine_days=None), TICK)
    assert installation.engine.forgotten == [old]


def test_a_log_is_complete_when_it_moves_while_it_is_requested(installation: Installation) -> None:
    """The row is read, then the sweep archives the log and the engine forgets the run, then the engine is asked."""
    installation.run("w-1", train="succeeded")
    logs = installation.engine.logs

    def moving(*arguments: object) -> object:
        installation.engine.logs = logs
        archive.archive_logs(installation.housekeeper(), TICK)
        archive.forget_runs(installation.housekeeper(engine_days=None), TICK)
        return logs(*arguments)

    installation.engine.logs = moving
    assert installation.log("w-1", "train") == (b"train\n" + LINES, len(b"train\n" + LINES), True)


def test_without_contents_the_engine_forgets_runs_with_their_logs(installation: Installation) -> None:
    old = installation.run("w-1", finished=clock.ago(8 * 86400), train="succeeded")
    housekeeper = installation.housekeeper(contents=None)
    for repair in (archive.archive_logs, archive.forget_runs, archive.remove_logs):
        repair(housekeeper, TICK)
    assert (installation.engine.forgotten, installation.archived()) == ([old], {"w-1/train": None})


def test_logs_are_removed_after_their_retention(installation: Installation) -> None:
    installation.run("w-1", finished=clock.ago(366 * 86400), train="succeeded", never="skipped")
    installation.run("w-2", finished=clock.ago(364 * 86400), train="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    archive.remove_logs(installation.housekeeper(log_days=0), TICK)
    assert installation.log("w-1", "train")[0] == b"train\n" + LINES
    archive.remove_logs(installation.housekeeper(), TICK)
    assert b"kept no longer" in installation.log("w-1", "train")[0]
    assert installation.log("w-2", "train")[0] == b"train\n" + LINES
    assert [path.name for path in (installation.folder / "contents").rglob("*.log")] == ["train.log"]
    installation.engine.log_requests = 0
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.engine.log_requests == 0


def test_a_log_that_was_deleted_from_the_contents_is_reported(installation: Installation) -> None:
    installation.run("w-1", train="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    (installation.folder / "contents/runs/id-w-1/train.log").unlink()
    assert b"kept no longer" in installation.log("w-1", "train")[0]


def test_a_reused_step_shows_the_log_of_the_run_that_executed_it(installation: Installation) -> None:
    installation.run("w-1", train="succeeded")
    installation.run("w-2", train="succeeded")
    with installation.store.write() as session:
        step = runs.steps(session, ["id-w-2"])[0]
        step.reused_from, step.archived = "w-1", ""
    archive.archive_logs(installation.housekeeper(), TICK)
    assert installation.archived() == {"w-1/train": "runs/id-w-1/train.log", "w-2/train": ""}
    assert installation.log("w-2", "train")[0] == b"train\n" + LINES


def test_each_log_is_requested_from_its_execution_and_every_execution_is_forgotten(installation: Installation) -> None:
    installation.run("w-1", state="failed", finished=clock.ago(8 * 86400), build="succeeded", serve="succeeded", announce="failed")
    with installation.store.write() as session:
        runs.get(session, "w-1").execution = 2
        for step, execution in zip(runs.steps(session, ["id-w-1"]), (1, 2, 0), strict=True):
            step.execution = execution
            written = installation.engine.written.pop(("id-w-1", step.name))
            if execution:
                installation.engine.written["id-w-1" if execution == 1 else "id-w-1.2", step.name] = written
    assert installation.log("w-1", "announce") == (b"", 0, True), "it was rejected before any engine got it"
    archive.archive_logs(installation.housekeeper(), TICK)
    archive.forget_runs(installation.housekeeper(), TICK)
    assert installation.engine.forgotten == ["id-w-1", "id-w-1.2"]
    assert installation.log("w-1", "serve")[0] == b"serve\n" + LINES


def test_a_run_that_the_engine_still_executes_is_not_forgotten_and_blocks_no_other(installation: Installation) -> None:
    class Busy(Engine):
        def forget(self, run_id: str) -> None:
            if run_id == "id-w-1":
                raise errors.ConflictError("the PipelineRun has not finished")
            super().forget(run_id)

    installation.engine = Busy()
    for name in ("w-1", "w-2"):
        installation.run(name, finished=clock.ago(8 * 86400), train="succeeded")
    archive.archive_logs(installation.housekeeper(), TICK)
    archive.forget_runs(installation.housekeeper(), TICK)
    assert installation.engine.forgotten == ["id-w-2"]
