"""Contents in a folder, where things go wrong: links that lead out, processes that die, disks that refuse."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.contents import filesystem
from fuseml.domain import errors
from tests import commands

KEY = "runs/1f0c/trainer.log"


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    root = tmp_path / "contents"
    root.mkdir()
    (root / "runs").symlink_to(outside)
    store = filesystem.FileContents(root)
    for call in (lambda: store.put("runs/secret", [b"y"]), lambda: list(store.get("runs/secret")), lambda: store.delete("runs/secret")):
        with pytest.raises(errors.PermanentError, match="leads out"):
            call()
    assert files(outside) == ["secret"]


def test_a_killed_writer_leaves_what_was_there_and_its_rest_is_cleared_away(tmp_path: Path) -> None:
    store = filesystem.FileContents(tmp_path)
    store.put(KEY, [b"old"])
    program = f"""
import os, pathlib, signal
from fuseml.contents import filesystem
def blocks():
    yield b"new" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)
filesystem.FileContents(pathlib.Path({str(tmp_path)!r})).put({KEY!r}, blocks())
"""
    commands.python(program, code=-9)
    assert b"".join(store.get(KEY)) == b"old"
    [rest] = [path for path in files(tmp_path) if path != KEY]
    # Somebody else may still be writing.
    filesystem.FileContents(tmp_path).put(KEY, [b"newer"])
    assert rest in files(tmp_path)
    yesterday = time.time() - 90_000
    os.utime(tmp_path / rest, (yesterday, yesterday))
    filesystem.FileContents(tmp_path).put(KEY, [b"newest"])
    assert files(tmp_path) == [KEY]


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    store = filesystem.FileContents(tmp_path)
    store.put("runs/a", [b"x"])
    for key in ("runs/a/b", "runs"):
        with pytest.raises(errors.PermanentError, match="cannot keep"):
            store.put(key, [b"y"])
    assert files(tmp_path) == ["runs/a"]


def test_a_disk_that_takes_no_more_may_be_tried_again(tmp_path: Path) -> None:
    program = f"""
import pathlib, resource, signal
from fuseml.contents import filesystem
from fuseml.domain import errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    filesystem.FileContents(pathlib.Path({str(tmp_path)!r})).put("a", [b"x" * 5000])
except errors.TemporaryError as error:
    print(error.message)
"""
    said = commands.python(program).stdout
    assert said == "the folder of contents cannot be used for 'a' now: File too large\n"
    assert files(tmp_path) == []


def test_nobody_else_reads_what_is_kept(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"x"

    filesystem.FileContents(tmp_path).put(KEY, blocks())
    assert (tmp_path / KEY).stat().st_mode & 0o077 == 0
