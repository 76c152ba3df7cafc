"""What the `fuseml` command prints in a terminal: tables of 80 columns, colours, a watched run."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import server, start
from tests.waiting import PATIENCE

__all__ = ["server"]


def in_terminal(server: CannedApi, home: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Exit code and output of a command in a terminal of 80 columns, with `more` variables."""
    parent, child = pty.openpty()
    process = start(server, home, *arguments, variables_beside=more, stdout=child, stderr=child, stdin=subprocess.DEVNULL)
    os.close(child)
    screen = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not piece:
            break
        screen += piece
    os.close(parent)
    return process.wait(PATIENCE), screen.decode()


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "").splitlines()]


@pytest.mark.parametrize(
    "line", ["run list", "extension list", "codeset list", "application list", "artifact list", "workflow list", "run get mlflow-e2e-1"]
)
def test_a_table_fits_a_narrow_terminal_and_cuts_no_name(line: str, server: CannedApi, tmp_path: Path) -> None:
    code, screen = in_terminal(server, tmp_path, *line.split())
    assert code == 0
    assert max(len(text) for text in plain(screen) if not text.startswith(("Inputs", "Outputs", "Version"))) <= 80
    assert any(name in screen for name in ("mlflow-e2e-1", "mlflow", "diabetes"))


def test_a_long_description_is_cut_to_one_line(tmp_path: Path) -> None:
    long = {**canned_api.PROJECT, "name": "a-project-with-quite-a-long-name", "description": "word " * 60}
    with canned_api.serve({("GET", "/projects"): Answer([long, long])}) as server:
        _, screen = in_terminal(server, tmp_path, "project", "list")
    lines = [line for line in plain(screen) if line]
    assert len(lines) == 3
    assert "a-project-with-quite-a-long-name" in lines[1]
    assert lines[1].rstrip().endswith("ada") or "…" in lines[1]


def test_a_url_folds_on_a_narrow_terminal(server: CannedApi, tmp_path: Path) -> None:
    _, screen = in_terminal(server, tmp_path, "application", "list")
    header, *rows = [line for line in plain(screen) if line]
    left = header.index("URL")
    assert "".join(row[left:].strip() for row in rows) == canned_api.APPLICATION["url"]
    assert "…" not in screen


def test_minor_columns_give_way_to_names(tmp_path: Path) -> None:
    long = {**canned_api.RUN, "name": "a-workflow-with-quite-a-long-name-1"}
    with canned_api.serve({("GET", "/runs"): Answer([long])}) as server:
        _, screen = in_terminal(server, tmp_path, "run", "list")
        header, row = [line for line in plain(screen) if line]
        assert header.split() == ["NAME", "CODESET", "DURATION", "STATE"]
        assert row.split() == ["a-workflow-with-quite-a-long-name-1", "demo/diabetes", "1m04s", "succeeded"]
        # A field that was asked for stays.
        _, screen = in_terminal(server, tmp_path, "run", "list", "--field", "name", "--field", "started", "--field", "id")
        assert plain(screen)[0].split() == ["NAME", "STARTED", "ID"]


def test_no_color_is_heeded(server: CannedApi, tmp_path: Path) -> None:
    coloured = r"\x1b\[[0-9;]*3[0-7]m"
    _, screen = in_terminal(server, tmp_path, "run", "list")
    assert re.search(coloured, screen)
    _, screen = in_terminal(server, tmp_path, "run", "list", NO_COLOR="1")
    assert not re.search(coloured, screen)


def test_a_watched_run_is_a_tree_of_its_steps_in_a_terminal(server: CannedApi, tmp_path: Path) -> None:
    code, screen = in_terminal(server, tmp_path, "run", "watch", "mlflow-e2e-1")
    assert code == 0
    assert any(re.search(r"── trainer +succeeded +30s +attempt 2", line) for line in plain(screen))


def test_a_column_that_has_no_room_to_be_read_is_left_out(tmp_path: Path) -> None:
    long = {**canned_api.APPLICATION, "name": "demo-a-codeset-of-long-name", "model": "models:/a-model-of-this/1"}
    with canned_api.serve({("GET", "/applications"): Answer([long])}) as server:
        _, screen = in_terminal(server, tmp_path, "application", "list")
    header, row = [line for line in plain(screen) if line]
    assert "URL" not in header.split()
    assert row.split()[:2] == [long["name"], long["model"]]


def test_fields_break_between_words_and_leave_urls_whole(tmp_path: Path) -> None:
    url = "http://127.0.0.1:8000/apps/demo-a-codeset-with-a-long-name/v2/models/demo-a-codeset-with-a-long-name/infer"
    long = {**canned_api.APPLICATION, "url": url, "description": "a model that " * 12}
    with canned_api.serve({("GET", "/applications/diabetes"): Answer(long)}) as server:
        _, screen = in_terminal(server, tmp_path, "application", "get", "diabetes")
    lines = plain(screen)
    assert any(line.endswith(url) for line in lines)
    described = [line for line in lines if "a model" in line or line.strip().startswith(("that", "model"))]
    assert len(described) > 1
    assert all(len(line) <= 80 and line.split()[-1] in ("a", "model", "that") for line in described)


def test_a_failed_run_is_listed_with_its_step_and_cause(tmp_path: Path) -> None:
    failed = {**canned_api.RUN, "state": "failed", "cause": "step 'trainer' failed: exited with code 1: KeyError: 'alpha'"}
    with canned_api.serve({("GET", "/runs"): Answer([failed])}) as server:
        _, screen = in_terminal(server, tmp_path, "run", "list")
    assert "trainer: KeyError: 'alpha'" in screen
