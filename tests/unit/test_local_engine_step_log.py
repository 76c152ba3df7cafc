"""Masking and reading of the log of a step."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.engines.local import step_log
from tests.waiting import PATIENCE, wait_until

SECRETS = ["canary-4711-abc", "-----BEGIN KEY-----\nMIIabcdef\n-----END KEY-----"]


def log_of(folder: Path, script: str, secrets: Sequence[str] = SECRETS, *, timeout: float = PATIENCE) -> str:
    """What is in the log when a script has result."""
    log = step_log.StepLog(folder, folder / "log")
    with log.open_output(secrets) as output:
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    process.wait()
    log.finish(timeout)
    return (folder / "log").read_text()


def test_secrets_are_masked(tmp_path: Path) -> None:
    script = "echo one canary-4711-abc; echo MIIabcdef >&2; printf canary-47; sleep 0.1; echo 11-abc; printf canary-4711-ab"
    assert log_of(tmp_path, script) == "one <hidden>\n<hidden>\n<hidden>\ncanary-4711-ab"


def test_the_file_never_contains_a_secret(tmp_path: Path) -> None:
    log = step_log.StepLog(tmp_path, tmp_path / "log")
    with log.open_output(SECRETS) as output:
        process = subprocess.Popen(["/bin/sh", "-c", "while echo canary-4711-abc; do sleep 0.01; done"], stdout=output)
    wait_until(lambda: "<hidden>" in (tmp_path / "log").read_text(), "the first line")
    log_text = (tmp_path / "log").read_text()
    process.kill()
    process.wait()
    log.finish()
    assert set(log_text.splitlines()) == {"<hidden>"}
    assert "canary" not in (tmp_path / "log").read_text()


def test_attempts_are_appended(tmp_path: Path) -> None:
    assert log_of(tmp_path, "echo first") == "first\n"
    assert log_of(tmp_path, "echo second", []) == "first\nsecond\n"
    assert log_of(tmp_path, "echo third") == "first\nsecond\nthird\n"


def test_a_large_output_and_many_secrets_are_supported(tmp_path: Path) -> None:
    secrets = [f"secret-{number:06}-{'x' * 100}" for number in range(2_000)]
    lines = log_of(tmp_path, "seq 100000; echo " + secrets[-1], secrets).splitlines()
    assert (len(lines), lines[-2:]) == (100_001, ["100000", "<hidden>"])


def test_a_process_that_keeps_the_output_open_delays_the_end_only_briefly(tmp_path: Path) -> None:
    assert log_of(tmp_path, f"echo canary-4711-abc; sleep 3600 & echo $! > {tmp_path / 'pid'}", timeout=0.5) == "<hidden>\n"
    # Raises an error unless the process is alive.
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_step_that_cannot_start_leaves_an_empty_log(tmp_path: Path) -> None:
    log = step_log.StepLog(tmp_path, tmp_path / "log")
    with pytest.raises(FileNotFoundError), log.open_output(SECRETS) as output:
        subprocess.Popen([tmp_path / "missing"], stdout=output)
    assert (tmp_path / "log").read_bytes() == b""


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 9))
def test_a_log_can_be_read_in_chunks(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    log = tmp_path_factory.getbasetemp() / "log-in-chunks"
    log.write_text(text, newline="")
    collected, at_end = b"", False
    while not at_end:
        data, at_end = step_log.read(log, len(collected), limit)
        assert len(data) <= limit
        collected += data
    assert collected == text.encode()


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert step_log.read(tmp_path / "log", 0, 10) == (b"", True)
