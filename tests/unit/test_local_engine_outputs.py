"""Files that unconfined steps leave for the local engine: hostile ones fail the step, and delay neither the engine nor another run.

Confined steps reach only some of them (test_local_engine_confinement.py).
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fuseml.domain import plans
from fuseml.engines import local, step_files
from fuseml.engines.local import scheduler, trash
from fuseml.processes import launcher
from tests.contract import engines
from tests.contract.engines import UnderTest
from tests.unit.test_local_engine_recovery import INTERRUPTED, alive, server, until
from tests.waiting import wait_until

RESULTS = 'cd "$FUSEML_ENV_RESULTS"'
SOCKET = f"{sys.executable} -c \"import socket; socket.socket(socket.AF_UNIX).bind('o')\""
CHECKOUT = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")

HOSTILE = {
    "FIFO": ("mkfifo o", "'o' is a FIFO, not a regular file"),
    "socket": (SOCKET, "'o' is a socket, not a regular file"),
    "folder": ("mkdir o", "'o' is a folder, not a regular file"),
    "link to a file": ("ln -s ../../../plan.json o", "'o' is a symbolic link, not a regular file"),
    "link to nothing": ("ln -s nothing o", "'o' is a symbolic link, not a regular file"),
    "link to a FIFO": ("mkfifo p; ln -s p o", "'o' is a symbolic link, not a regular file"),
    "link to a device": ("ln -s /dev/zero o", "'o' is a symbolic link, not a regular file"),
    "results folder is a link": (
        "mkdir ../other; echo 1 > ../other/o; cd ..; rm -r results; ln -s other results",
        "'results' is a symbolic link",
    ),
    "results folder is a FIFO": ("cd ..; rm -r results; mkfifo results", "'results' is a FIFO, not a folder"),
    "step folder is a link": ("echo 1 > o; cd ../..; mv s t; ln -s t s", "'s' is a symbolic link, not a folder"),
    "no results folder": ("cd ..; rm -r results", "did not write its output 'o'"),
    "huge": ("truncate -s 1T o", "outputs are larger than 1.5 KiB together"),
    "NUL": (r"printf 'a\0b' > o", "its output 'o' contains a NUL character; write text"),
    "not UTF-8": (r"printf 'a\377b' > o", "its output 'o' is not UTF-8 text; write text"),
    "surrogate": (r"printf '\355\240\200' > o", "its output 'o' is not UTF-8 text; write text"),
}


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[UnderTest]:
    with engines.local_engine(tmp_path, grace=0.2, confined=False) as engine:
        yield engine


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "step folder is a link"])
def test_a_hostile_output_fails_its_step_with_the_cause(under_test: UnderTest, kind: str) -> None:
    script, cause = HOSTILE[kind]
    result = under_test.run(engines.make_plan(engines.shell("s", f"{RESULTS}; {script}", outputs=["o"])))
    assert (result.run.state, result.steps["s"].state, result.steps["s"].outputs) == ("failed", "failed", {})
    assert cause in (result.steps["s"].cause or "")


def test_hostile_outputs_of_every_kind_do_not_stop_the_engine(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, max_parallel=2, confined=False) as under_test:
        hostile = [engines.make_plan(engines.shell("s", f"{RESULTS}; {script}", outputs=["o"])) for script, _ in HOSTILE.values()]
        for plan in hostile:
            under_test.engine.submit(plan, {})
        assert under_test.run(engines.make_plan(engines.shell("s", "true"))).run.state == "succeeded"
        assert {under_test.inbox.finished(plan.id).run.state for plan in hostile} == {"failed"}


@pytest.mark.parametrize("kind", ["FIFO", "link to a file", "results folder is a link"])
def test_a_hostile_output_fails_its_step_after_a_restart(tmp_path: Path, kind: str) -> None:
    script, cause = HOSTILE[kind]
    plan = engines.make_plan(
        engines.shell("s", f"{RESULTS}; {script}; echo up; while ! test -e {tmp_path}/shared/go; do sleep 0.02; done", outputs=["o"])
    )
    with server(tmp_path, plan, confined=False):
        until(tmp_path / "runs" / plan.id / "steps" / "s" / "log", "up")
    (tmp_path / "shared" / "go").touch()
    with engines.local_engine(tmp_path) as under_test:
        result = under_test.inbox.finished(plan.id)
    assert result.run.state == "failed"
    assert cause in (result.steps["s"].cause or "")


def test_a_device_is_never_opened() -> None:
    with pytest.raises(step_files.WrongKindError, match="'zero' is a device, not a regular file"):
        step_files.read(Path("/dev"), "zero", limit=1)


OWN_FILES = {"FIFO": "mkfifo {}", "link": "ln -s /dev/zero {}", "folder": "mkdir {}", "text": "yes | head -c 100000 > {}"}


@pytest.mark.parametrize("kind", OWN_FILES)
@pytest.mark.parametrize("name", ["exit", "pid", "lock", "step.json", ".step.json.partial"])
def test_a_step_that_replaces_a_file_of_the_engine_still_ends(under_test: UnderTest, name: str, kind: str) -> None:
    script = f"{RESULTS}/..; rm -f {name}; {OWN_FILES[kind].format(name)}; exit 3"
    result = under_test.run(engines.make_plan(engines.shell("s", script)))
    assert (result.run.state, result.steps["s"].cause) == ("failed", "exited with code 3")


@pytest.mark.parametrize("kind", ["FIFO", "link", "folder"])
def test_a_step_that_replaces_its_log_still_ends_and_reveals_no_other_file(under_test: UnderTest, kind: str) -> None:
    plan = engines.make_plan(engines.shell("s", f"{RESULTS}/..; rm -f log; {OWN_FILES[kind].format('log')}; exit 3"))
    result = under_test.run(plan)
    assert (result.steps["s"].cause or "").startswith("exited with code 3; its log cannot be read: 'log' is a ")
    assert under_test.log(plan, "s").startswith("fuseml: the step replaced its log: 'log' is a ")


def test_a_retry_replaces_what_the_step_put_in_the_place_of_its_log_and_script(under_test: UnderTest, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    script = f"{RESULTS}/..; test ! -e tried || {{ echo again; exit 0; }}; touch tried; "
    script += f"rm log script; mkfifo log; ln -s {tmp_path}/other script; exit 3"
    plan = engines.make_plan(engines.shell("s", script, retries=1))
    assert under_test.run(plan).run.state == "succeeded"
    assert under_test.log(plan, "s").splitlines()[-1] == "again"
    assert (tmp_path / "other").read_text() == "other"


STUBBORN = {
    "ignores SIGTERM": "trap '' TERM; echo up; while :; do sleep 1; done",
    "is suspended": "echo up; kill -STOP $$",
    "suspends its supervisor": f"{RESULTS}/..; echo up; until grep -q up log; do sleep 0.01; done; kill -STOP $PPID; sleep 3600",
    "forges its end": f"{RESULTS}/..; echo 0 > exit; echo up; sleep 3600",
    "blocks on a FIFO": f"{RESULTS}; mkfifo o; echo up; echo 1 > o",
    "makes its exit file a FIFO": f"{RESULTS}/..; mkfifo exit; echo up; sleep 3600",
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_a_timeout_ends_a_stubborn_step(under_test: UnderTest, kind: str) -> None:
    result = under_test.run(engines.make_plan(engines.shell("s", STUBBORN[kind], timeout=1, outputs=["o"])))
    assert (result.run.state, result.steps["s"].cause) == ("failed", "TaskRunTimeout: timed out after 1 s")


def test_a_cancel_and_a_stop_end_stubborn_steps(tmp_path: Path) -> None:
    cancelled, interrupted = (
        engines.make_plan(*(engines.shell(f"s{number}", script) for number, script in enumerate(STUBBORN.values()))) for _ in range(2)
    )
    inbox = engines.Inbox()
    engine = engines.make_local(tmp_path, inbox.put, grace=0.2, max_parallel=12, confined=False)
    engine.start()
    for plan in (cancelled, interrupted):
        engine.submit(plan, {})
    for plan in (cancelled, interrupted):
        for step in plan.steps:
            until(tmp_path / "runs" / plan.id / "steps" / step.name / "log", "up")
    engine.cancel(cancelled.id, "no longer needed")
    assert inbox.finished(cancelled.id).run.state == "cancelled"
    engine.stop(0.2)
    result = inbox.finished(interrupted.id)
    assert (result.run.state, result.run.cause) == ("failed", INTERRUPTED)
    assert not any(alive(tmp_path, plan, step.name) for plan in (cancelled, interrupted) for step in plan.steps)


def blocked_checkout(begun: threading.Event, go: threading.Event) -> Callable[[plans.Checkout, Path], Sequence[plans.Submodule]]:
    """A git host that answers when the test lets it."""

    def check_out(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
        begun.set()
        go.wait()
        return ()

    return check_out


def test_a_cancel_does_not_wait_for_a_git_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_COLLECT", 0.1)
    begun, go = threading.Event(), threading.Event()
    plan = engines.make_plan(engines.shell("s", "true", checkouts=(CHECKOUT,), retries=3))
    with engines.local_engine(tmp_path, checkout=blocked_checkout(begun, go), grace=0.1) as under_test:
        under_test.engine.submit(plan, {})
        wait_until(begun.is_set, "the checkout to begin")
        under_test.engine.cancel(plan.id, "no longer needed")
        result = under_test.inbox.finished(plan.id)
        assert (result.run.state, result.steps["s"].state) == ("cancelled", "cancelled")
        under_test.engine.forget(plan.id)
        go.set()
        assert under_test.run(engines.make_plan(engines.shell("s", "true"))).run.state == "succeeded"
    assert not (tmp_path / "runs" / plan.id).exists()


def test_a_stop_does_not_wait_for_a_git_host(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    plan = engines.make_plan(engines.shell("s", "true", checkouts=(CHECKOUT,)))
    with engines.local_engine(tmp_path, checkout=blocked_checkout(begun, go)) as under_test:
        under_test.engine.submit(plan, {})
        wait_until(begun.is_set, "the checkout to begin")
    go.set()
    assert under_test.inbox.finished(plan.id).run.cause == INTERRUPTED


def test_runs_continue_while_the_files_of_a_finished_run_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleting, go = threading.Event(), threading.Event()
    delete = shutil.rmtree

    def delete_slowly(path: Path, *arguments: object, **options: object) -> None:
        deleting.set()
        go.wait()
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", delete_slowly)
    first, running = (engines.make_plan(engines.shell("s", script, checkouts=(CHECKOUT,))) for script in ("true", "echo up; sleep 3600"))
    with engines.local_engine(tmp_path) as under_test:
        under_test.engine.submit(running, {})
        assert under_test.run(first).run.state == "succeeded"
        wait_until(deleting.is_set, "the removal to begin")
        retried = engines.make_plan(engines.shell("s", "exit 1", retries=1, checkouts=(CHECKOUT,)), engines.shell("t", "true"))
        assert under_test.run(retried).steps["s"].attempts == 2
        under_test.engine.cancel(running.id, "no longer needed")
        assert under_test.inbox.finished(running.id).run.state == "cancelled"
        assert under_test.log(running, "s").startswith("up")
        under_test.engine.forget(first.id)
        assert not (tmp_path / "runs" / first.id).exists()
    # The server ends while files are left; the next one deletes them.
    left = list((tmp_path / "runs" / ".trash").iterdir())
    assert left
    go.set()
    with engines.local_engine(tmp_path):
        wait_until(lambda: not any((tmp_path / "runs" / ".trash").iterdir()), "the trash to be empty")


def test_folders_without_rights_and_links_are_deleted_and_links_are_not_followed(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    (kept / "inner").mkdir(parents=True)
    (folder / "closed" / "deeper").mkdir(parents=True)
    (folder / "closed" / "link").symlink_to(kept)
    for path in (folder / "closed" / "deeper", folder / "closed", folder):
        path.chmod(0o000)
    can = trash.Trash(tmp_path / "trash")
    assert can.discard(folder)
    assert can.discard(tmp_path / "missing")
    can.start()
    wait_until(lambda: not any((tmp_path / "trash").iterdir()), "the trash to be empty")
    can.stop()
    assert (kept / "inner").is_dir()
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_steps_start_after_an_unconfined_step_has_killed_or_suspended_the_spawner(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_START_SECONDS", 0.5)
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.run(engines.make_plan(engines.shell("s", "true"))).run.state == "succeeded"
        engine = under_test.engine
        assert isinstance(engine, local.LocalEngine)
        spawner = engine._launcher._spawner
        assert spawner is not None
        spawner.send_signal(number)
        plan = engines.make_plan(engines.shell("s", "echo once", retries=3))
        assert under_test.run(plan).run.state == "succeeded"
        assert under_test.log(plan, "s").count("once\n") == 1


def test_a_time_out_does_not_wait_for_a_suspended_spawner(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, grace=0.1) as under_test:
        under_test.run(engines.make_plan(engines.shell("s", "true")))
        assert isinstance(under_test.engine, local.LocalEngine)
        spawner = under_test.engine._launcher._spawner
        assert spawner is not None
        spawner.send_signal(signal.SIGSTOP)
        plan = engines.make_plan(engines.shell("s", "sleep 3600"))
        under_test.engine.submit(plan, {})
        under_test.engine.cancel(plan.id, "no longer needed")
        assert under_test.inbox.finished(plan.id).run.state == "cancelled"
        spawner.kill()
