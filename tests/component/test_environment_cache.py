"""Environments of codesets are listed and removed, the least recently used first; what something needs stays, and a kill loses nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.cli import main
from fuseml.domain import errors
from fuseml.embedded import environment_cache
from fuseml.steps import occupancy
from fuseml.store import applications, database, executions
from fuseml.store.tables import run_rows
from tests import commands, databases, waiting
from tests.component.interrupted import Interrupted

NOON = "2026-11-21T12:00:00.000000Z"
KB = 1000
IMAGE = "fuseml.local/mlflow-trainer:p."


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[database.Database]:
    opened = databases.on_sqlite(home / "fuseml.db")
    yield opened
    opened.close()


@pytest.fixture
def cache(home: Path, store: database.Database) -> environment_cache.EnvironmentCache:
    return environment_cache.EnvironmentCache(home / "environments", store, environment_cache.GIB)


def environment(home: Path, key: str, hours: int, size: int = 100 * KB, project: str = "p") -> Path:
    """An environment of `size` bytes that was last used some hours ago."""
    folder = home / "environments" / project / key
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text("")
    (folder / occupancy.LOCK).touch()
    (folder / "data").write_bytes(b"a" * size)
    moment = folder.stat().st_mtime - 3600 * hours
    os.utime(folder, (moment, moment))
    return folder


def run(store: database.Database, output: str, *, finished: str | None = NOON, cached: str | None = "key") -> None:
    """A run whose builder step has the output."""
    row = run_rows.Run(
        id=output,
        name=output,
        sequence=zlib.crc32(output.encode()),
        workflow="w",
        revision=1,
        project="p",
        trigger={},
        inputs={},
        state="running",
        created=NOON,
    )
    row.finished = finished
    step = run_rows.StepRun(run_id=output, name="build", position=0, state="succeeded", outputs={"image": output}, cache_key=cached)
    with store.write() as session:
        session.add(row)
        session.flush()
        session.add(step)


def names(entries: list[environment_cache.Entry]) -> list[str]:
    return [entry.environment or "downloads" for entry in entries]


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that is in the environment, as the builder's line in its packages makes every Python of it."""
    program = (
        "import sys; from fuseml.steps import occupancy; held = occupancy.hold(sys.argv[1]); print(held, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_the_least_recently_used_environments_are_removed_until_the_rest_fits(
    home: Path, cache: environment_cache.EnvironmentCache
) -> None:
    for key, hours in (("new", 1), ("old", 3), ("older", 5)):
        environment(home, key, hours)
    assert names(cache.entries()) == ["older", "old", "new"]
    removed, remaining = cache.prune(250 * KB)
    assert (names(removed), names(remaining)) == (["older"], ["old", "new"])
    assert not (home / "environments" / "p" / "older").exists()
    assert cache.prune(250 * KB) == ([], cache.entries())


def test_an_environment_of_a_running_process_stays_until_the_process_ends(home: Path, cache: environment_cache.EnvironmentCache) -> None:
    folder = environment(home, "used", 5)
    process = holder(folder)
    try:
        assert cache.entries()[0].needed_by == "a running process"
        assert cache.prune(0)[0] == []
    finally:
        process.kill()
        process.communicate()
    assert names(cache.prune(0)[0]) == ["used"]


def test_a_removal_excludes_a_process_that_starts(home: Path, cache: environment_cache.EnvironmentCache) -> None:
    folder = environment(home, "used", 5)
    with (folder / occupancy.LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert occupancy.hold(str(folder)) is None
    held = occupancy.hold(str(folder))
    assert held is not None
    os.close(held)
    assert occupancy.hold(str(home)) is None


def test_an_environment_that_is_needed_while_others_are_removed_stays(home: Path, store: database.Database) -> None:
    folders = {key: environment(home, key, hours) for key, hours in (("first", 9), ("planned", 8), ("returned", 7), ("free", 6))}
    interrupted = Interrupted(store.url)

    def use() -> None:
        run(store, f"{IMAGE}planned", finished=None)
        os.utime(folders["returned"])  # as a builder does that finds it

    interrupted.then = use
    removed, _ = environment_cache.EnvironmentCache(home / "environments", interrupted, environment_cache.GIB).prune(0)
    interrupted.close()
    assert names(removed) == ["first", "free"]
    assert (folders["planned"].is_dir(), folders["returned"].is_dir()) == (True, True)


def test_an_environment_that_a_builder_makes_or_has_just_made_stays(home: Path, cache: environment_cache.EnvironmentCache) -> None:
    fresh = environment(home, "fresh", 0)
    building = environment(home, "building", 5)
    # One of conda is built at its own place.
    unfinished = [home / "environments" / "p" / name for name in (".other.partial", "other")]
    for partial in unfinished:
        partial.mkdir()
    with building.with_name(".building.lock").open("w") as one, building.with_name(".other.lock").open("w") as other:
        for lock in (one, other):
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert cache.prune(0)[0] == []
        assert all(partial.is_dir() for partial in unfinished)
    assert names(cache.prune(0)[0]) == ["building"]
    assert fresh.is_dir()
    assert not any(partial.exists() for partial in unfinished), "the remains of killed builders are deleted"


def test_the_environments_of_applications_and_of_unfinished_runs_stay(
    home: Path, store: database.Database, cache: environment_cache.EnvironmentCache
) -> None:
    for key in ("served", "former", "planned", "free"):
        environment(home, key, 5)
    with store.write() as session:
        for key in ("former", "served"):
            applications.put(session, "app", {"type": "predictor", "workflow": "w", "runtime": f"{IMAGE}{key}"}, NOON)
    run(store, f"{IMAGE}planned", finished=None)
    run(store, f"{IMAGE}free")
    reasons = {entry.environment: entry.needed_by for entry in cache.entries()}
    assert reasons == {"served": "application app", "former": "application app", "planned": "an unfinished run", "free": ""}
    assert names(cache.prune(0)[0]) == ["free"]


def test_no_later_run_reuses_the_output_of_a_removed_environment(
    home: Path, store: database.Database, cache: environment_cache.EnvironmentCache
) -> None:
    for key in ("gone", "kept"):
        environment(home, key, 5 if key == "gone" else 0)
        run(store, f"{IMAGE}{key}", cached=key)
    cache.prune(0)
    with store.read() as session:
        assert executions.find(session, "p", "gone") is None
        assert executions.find(session, "p", "kept") is not None


@pytest.mark.parametrize("removed", ["a_b", "a%b", "a/b"])
def test_other_outputs_are_reused_still(store: database.Database, removed: str) -> None:
    for output in ("a_b", "a%b", "axb", "a/b"):
        run(store, output, cached=f"of {output}")
    with store.write() as session:
        executions.forget(session, [removed])
    with store.read() as session:
        kept = {output for output in ("a_b", "a%b", "axb", "a/b") if executions.find(session, "p", f"of {output}")}
    assert kept == {"a_b", "a%b", "axb", "a/b"} - {removed}


def test_downloads_are_removed_first_because_environments_share_their_files(home: Path, cache: environment_cache.EnvironmentCache) -> None:
    folder = environment(home, "old", 5)
    downloads = home / "environments" / "p" / ".uv" / "cache"
    downloads.mkdir(parents=True)
    (downloads / "unshared").write_bytes(b"b" * 50 * KB)
    os.link(folder / "data", downloads / "shared")
    sizes = {entry.kind: entry.size for entry in cache.entries()}
    assert sizes == {"downloads": 50 * KB, "environment": 100 * KB}
    with (downloads.parents[1] / ".key.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cache.entries()[0].needed_by == "a builder"
    assert names(cache.prune(120 * KB)[0]) == ["downloads"]
    assert not downloads.exists()


KILLED = """
import os, shutil, sys
from pathlib import Path
from fuseml.embedded import environment_cache
from fuseml.store import database

def killed(path):
    os.kill(os.getpid(), 9)

shutil.rmtree = killed
home = Path(sys.argv[1])
environment_cache.EnvironmentCache(home / "environments", database.Database(f"sqlite:///{home / 'fuseml.db'}"), 1).prune(0)
"""


def test_a_killed_removal_leaves_no_half_environment_and_is_continued(home: Path, cache: environment_cache.EnvironmentCache) -> None:
    folder = environment(home, "old", 5)
    commands.python(KILLED, home, code=-9)
    assert not folder.exists()
    assert [path.name.startswith(".trash-") for path in folder.parent.iterdir() if path.is_dir()] == [True]
    assert cache.entries() == []
    cache.prune(environment_cache.GIB)
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == []


def test_a_server_keeps_the_limit_while_it_runs(home: Path, store: database.Database) -> None:
    folder = environment(home, "old", 5)
    cache = environment_cache.EnvironmentCache(home / "environments", store, 50 * KB)
    cache.start()
    waiting.wait_until(lambda: not folder.exists(), "the environment is removed")
    cache.stop()


@pytest.mark.parametrize("value", ["0", "many", "-1"])
def test_the_limit_is_a_number_of_gib(value: str) -> None:
    assert environment_cache.limit({"FUSEML_ENVIRONMENTS_GIB": "2"}) == 2 << 30
    with pytest.raises(errors.PermanentError, match="FUSEML_ENVIRONMENTS_GIB must be a number of GiB above 0"):
        environment_cache.limit({"FUSEML_ENVIRONMENTS_GIB": value})


def test_the_command_lists_and_removes(home: Path, store: database.Database, capsys: pytest.CaptureFixture[str]) -> None:
    def fuseml(*arguments: str) -> str:
        assert main.run(["cache", *arguments], {"FUSEML_HOME": str(home)}) == 0
        return capsys.readouterr().out

    environment(home, "old", 5, size=1500 * KB)
    environment(home, "used", 1)
    process = holder(home / "environments" / "p" / "used")
    try:
        table = fuseml("list")
        assert [line.split()[:3] for line in table.splitlines()[1:]] == [["p", "old", "1.5"], ["p", "used", "0.1"]]
        assert "a running process" in table
        entry = {"kind": "environment", "project": "p", "environment": "old", "size": 1500 * KB, "used": "", "needed_by": ""}
        assert json.loads(fuseml("list", "-o", "json"))[0] | {"used": ""} == entry
        assert fuseml("prune") == "Removed 0 (0.0 MB); 2 remain (1.6 MB).\n"
        pruned = fuseml("prune", "--all")
        assert pruned.splitlines()[-1] == "Removed 1 (1.5 MB); 1 remain (0.1 MB)."
        assert "old" in pruned
    finally:
        process.kill()
        process.communicate()
    assert json.loads(fuseml("prune", "--keep", "0", "-o", "json"))["remaining"] == []
    shutil.rmtree(home / "environments")
    assert json.loads(fuseml("list", "-o", "json")) == []


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["cache", "list", "--home", str(tmp_path)], {}) == 1
    assert f"{tmp_path} is no home of a FuseML server on this machine" in capsys.readouterr().err
