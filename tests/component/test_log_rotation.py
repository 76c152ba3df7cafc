"""Logs have a bounded size and number: of the server, and of child processes that append while their log is rotated."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.embedded import child_process
from fuseml.runtime.telemetry import logs
from tests import commands
from tests.waiting import PATIENCE, wait_until

ROTATION = logs.Rotation(size=2000, kept=3)


def sizes(folder: pathlib.Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def test_the_log_of_the_server_is_bounded_and_the_newest_lines_stay(tmp_path: pathlib.Path) -> None:
    script = """
import logging, pathlib, sys
from fuseml.runtime.telemetry import logs
logs.to_file(pathlib.Path(sys.argv[1]), "text", logs.Rotation(2000, 3))
for number in range(1000):
    logging.getLogger("x").info("line %d", number)
"""
    commands.python(script, tmp_path / "server.log")
    found = sizes(tmp_path)
    assert list(found) == ["server.log", "server.log.1", "server.log.2", "server.log.3"]
    assert max(found.values()) <= ROTATION.size
    assert "line 999" in "".join((tmp_path / name).read_text() for name in found)


def test_the_log_of_a_child_is_bounded_while_the_child_writes(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "child.log"
    writes = (
        "import time\nfor number in range(300):\n    print('line', number, 'x' * 90, flush=True)\n    time.sleep(0.001)\nprint('end')\n"
    )
    child = child_process.SupervisedProcess([sys.executable, "-c", writes], env=dict(os.environ), cwd=tmp_path, log=log)
    try:

        def rotated() -> bool:
            logs.rotate(log, ROTATION)
            return not child.running

        wait_until(rotated, "the child to end", patience=PATIENCE, interval=0)
    finally:
        child.stop()
    logs.rotate(log, ROTATION)
    assert set(sizes(tmp_path)) <= {"child.log", "child.log.1", "child.log.2", "child.log.3"}
    assert log.stat().st_size <= ROTATION.size
    text = "".join((tmp_path / name).read_text() for name in ("child.log.1", "child.log"))
    assert text.endswith("end\n")
    assert "\0" not in text


@given(kept=st.integers(0, 4), writes=st.lists(st.integers(0, 50), max_size=12))
def test_rotated_files_hold_the_newest_content_in_order(tmp_path_factory: pytest.TempPathFactory, kept: int, writes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("rotated")
    log, everything, present = folder / "a.log", b"", b""
    log.touch()
    for number, count in enumerate(writes):
        piece = bytes([65 + number]) * count
        everything, present = everything + piece, present + piece
        with log.open("ab") as file:
            file.write(piece)
        logs.rotate(log, logs.Rotation(20, kept))
        if len(present) > 20:
            present = b""
    names = [f"a.log.{number}" for number in range(kept, 0, -1)]
    content = b"".join((folder / name).read_bytes() for name in names if (folder / name).exists()) + log.read_bytes()
    assert log.read_bytes() == present
    assert everything.endswith(content)
    assert set(sizes(folder)) <= {"a.log", *names}


def test_a_missing_log_is_not_made(tmp_path: pathlib.Path) -> None:
    logs.rotate(tmp_path / "none.log", ROTATION)
    assert sizes(tmp_path) == {}


def test_a_handler_without_kept_files_still_rotates(tmp_path: pathlib.Path) -> None:
    script = """
import logging, pathlib, sys
from fuseml.runtime.telemetry import logs
logs.to_file(pathlib.Path(sys.argv[1]), "text", logs.Rotation(2000, 0))
for number in range(200):
    logging.getLogger("x").info("line %d", number)
"""
    commands.python(script, tmp_path / "server.log")
    assert max(sizes(tmp_path).values()) <= 2000
