"""Child processes that never outlive us: real processes, really killed."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from fuseml.embedded import child_process
from tests.waiting import wait_until

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"]}
# Says its name and the names of its children, then stays.
FAMILY = "sleep 300 & echo $$ $!; sleep 300"
STUBBORN = "trap '' TERM; (trap '' TERM; exec sleep 300) & echo $$ $!; while :; do sleep 0.1; done"


def alive(pid: int) -> bool:
    """Whether a process runs. What is dead and waits for its parent's notice is dead."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Callable[..., child_process.SupervisedProcess]]:
    started: list[child_process.SupervisedProcess] = []

    def begin(script: str, *arguments: str, pipe: bool = True, env: dict[str, str] | None = None) -> child_process.SupervisedProcess:
        argv = ["/bin/sh", "-c", script, "child", *arguments]
        child = child_process.SupervisedProcess(argv, env=env or ENVIRONMENT, cwd=tmp_path, log=tmp_path / "log", pipe=pipe)
        started.append(child)
        return child

    yield begin
    for child in started:
        child.stop(0)


Start = Callable[..., child_process.SupervisedProcess]


def pids(child: child_process.SupervisedProcess) -> list[int]:
    return [int(pid) for pid in child.stdout.readline().split()]


def test_stopping_ends_the_whole_family(start: Start) -> None:
    child = start(FAMILY)
    family = pids(child)
    assert all(map(alive, family))
    # It ends politely: the grace is longer than the test.
    child.stop(3600)
    assert not child.running
    wait_until(lambda: not any(map(alive, family)), "the family to end")
    child.stop()


def test_a_child_may_take_its_time_to_end_in_order(start: Start, tmp_path: pathlib.Path) -> None:
    child = start("trap 'sleep 0.5; echo done > ended; exit' TERM; echo $$; while :; do sleep 0.05; done")
    pids(child)
    child.stop()
    assert (tmp_path / "ended").read_text() == "done\n"


def test_who_does_not_listen_is_killed_after_the_grace(start: Start) -> None:
    child = start(STUBBORN)
    family = pids(child)
    begun = time.monotonic()
    child.stop(0.3)
    assert time.monotonic() - begun >= 0.3
    wait_until(lambda: not any(map(alive, family)), "the family to end")


def test_a_child_that_ends_by_itself_takes_its_family_along(start: Start) -> None:
    child = start("(trap '' TERM; exec sleep 300) & echo $!; exit 3")
    (orphan,) = pids(child)
    wait_until(lambda: not child.running, "the child to end")
    wait_until(lambda: not alive(orphan), "the orphan to end")


def test_a_command_that_does_not_exist_is_told_in_the_log(tmp_path: pathlib.Path) -> None:
    child = child_process.SupervisedProcess(["./missing"], env=ENVIRONMENT, cwd=tmp_path, log=tmp_path / "log")
    wait_until(lambda: not child.running, "the child to end")
    child.stop()
    assert "not found" in child_process.tail(tmp_path / "log")


def test_a_child_gets_its_arguments_and_environment_and_no_input(start: Start) -> None:
    child = start('printf "%s|" "$@"; echo "$COLOUR|$HOME"; cat; exec sleep 300', "a b", "*", "", env={**ENVIRONMENT, "COLOUR": "red"})
    assert child.stdout.readline() == b"a b|*||red|\n"
    child.stop()


def test_without_a_pipe_everything_is_appended_to_the_log(start: Start, tmp_path: pathlib.Path) -> None:
    (tmp_path / "log").write_text("before\n")
    child = start("echo out; echo err >&2; exec sleep 300", pipe=False)
    wait_until(lambda: (tmp_path / "log").read_text() == "before\nout\nerr\n", "the log")
    assert child_process.tail(tmp_path / "log", 2) == "out | err"
    child.stop()
    assert child_process.tail(tmp_path / "missing") == ""


OWNER = """
import os, pathlib, sys, time
from fuseml.embedded import child_process
child = child_process.SupervisedProcess(["/bin/sh", "-c", sys.argv[1]], env=dict(os.environ), cwd=pathlib.Path("."), log=pathlib.Path("log"), pipe=True)
print(child._process.pid, *child.stdout.readline().decode().split(), flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("script", [FAMILY, STUBBORN], ids=["polite", "stubborn"])
def test_nobody_outlives_us_when_we_are_killed(tmp_path: pathlib.Path, script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "shared")}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, script], stdout=subprocess.PIPE, cwd=tmp_path, env=environment, text=True)
    assert owner.stdout is not None
    leader, *family = (int(pid) for pid in owner.stdout.readline().split())
    try:
        assert len(family) == 2
        assert all(map(alive, [leader, *family]))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        if script == STUBBORN:
            # The grace is too long for a test, so the process that counts it is ended early.
            wait_until(lambda: grace(leader) is not None, "the grace to begin")
            assert all(map(alive, [leader, *family]))
            os.kill(grace(leader) or 0, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, [leader, *family])), "all of them to end")
    finally:
        owner.stdout.close()
        for pid in filter(alive, family):
            os.kill(pid, signal.SIGKILL)


def grace(leader: int) -> int | None:
    """The process of the leader's group that counts the grace."""
    wanted = ["sleep", str(child_process._GRACE_SECONDS)]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            group = int((process / "stat").read_text().rpartition(")")[2].split()[2])
            arguments = (process / "cmdline").read_text().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if group == leader and arguments == wanted:
            return int(process.name)
    return None
