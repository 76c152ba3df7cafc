"""What a step prints, on its way into the log."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.engines.local import step_log

SECRETS = ["canary-4711-abc", "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----"]


def printed(folder: Path, script: str, secrets: Sequence[str] = SECRETS, *, patience: float = 10) -> str:
    """What is in the log when a script has ended."""
    log = step_log.StepLog(folder, folder / "log")
    with log.written(secrets) as output:
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    process.wait()
    log.finish(patience)
    return (folder / "log").read_text()


def test_secrets_are_hidden_on_their_way(tmp_path: Path) -> None:
    script = "echo one canary-4711-abc; echo MIIabcdef >&2; printf canary-47; sleep 0.1; echo 11-abc; printf canary-4711-ab"
    assert printed(tmp_path, script) == "one <hidden>\n<hidden>\n<hidden>\ncanary-4711-ab"


def test_a_secret_is_never_in_the_file(tmp_path: Path) -> None:
    log = step_log.StepLog(tmp_path, tmp_path / "log")
    with log.written(SECRETS) as output:
        process = subprocess.Popen(["/bin/sh", "-c", "while echo canary-4711-abc; do sleep 0.01; done"], stdout=output)
    deadline = time.monotonic() + 10
    while "<hidden>" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.005)
    seen = (tmp_path / "log").read_text()
    process.kill()
    process.wait()
    log.finish()
    assert set(seen.splitlines()) == {"<hidden>"}
    assert "canary" not in (tmp_path / "log").read_text()


def test_attempts_are_appended(tmp_path: Path) -> None:
    assert printed(tmp_path, "echo first") == "first\n"
    assert printed(tmp_path, "echo second", []) == "first\nsecond\n"
    assert printed(tmp_path, "echo third") == "first\nsecond\nthird\n"


def test_much_is_printed_and_there_are_many_secrets(tmp_path: Path) -> None:
    secrets = [f"secret-{number:06}-{'x' * 100}" for number in range(2_000)]
    lines = printed(tmp_path, "seq 100000; echo " + secrets[-1], secrets).splitlines()
    assert (len(lines), lines[-2:]) == (100_001, ["100000", "<hidden>"])


def test_what_keeps_the_output_open_keeps_nobody_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    assert printed(tmp_path, "echo canary-4711-abc; sleep 3 &", patience=0.5) == "<hidden>\n"
    assert time.monotonic() - began < 2.5


def test_a_step_that_cannot_be_started_leaves_nothing_behind(tmp_path: Path) -> None:
    log = step_log.StepLog(tmp_path, tmp_path / "log")
    with pytest.raises(FileNotFoundError), log.written(SECRETS) as output:
        subprocess.Popen([tmp_path / "missing"], stdout=output)
    assert (tmp_path / "log").read_bytes() == b""


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 9))
def test_a_log_can_be_read_in_pieces(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    log = tmp_path_factory.getbasetemp() / "log-in-pieces"
    log.write_text(text, newline="")
    collected, whole = b"", False
    while not whole:
        data, whole = step_log.read(log, len(collected), limit)
        assert len(data) <= limit
        collected += data
    assert collected == text.encode()


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert step_log.read(tmp_path / "log", 0, 10) == (b"", True)
