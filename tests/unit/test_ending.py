"""The end of the server: parts stop side by side, and nothing holds the process for ever."""

from __future__ import annotations

import threading

import pytest

from fuseml.embedded import ending
from tests import commands
from tests.waiting import PATIENCE


def test_parts_stop_side_by_side() -> None:
    together = threading.Barrier(3)

    def stop() -> None:
        together.wait(PATIENCE)

    assert ending.stop_all(dict.fromkeys("abc", stop), PATIENCE) == []
    assert not together.broken


def test_a_part_that_does_not_end_or_fails_holds_no_other(caplog: pytest.LogCaptureFixture) -> None:
    gate, stopped = threading.Event(), threading.Event()

    def hang() -> None:
        gate.wait(PATIENCE)

    def fail() -> None:
        raise RuntimeError("canary")

    try:
        assert ending.stop_all({"stuck": hang, "failing": fail, "quick": stopped.set}, 0.2) == ["stuck"]
    finally:
        gate.set()
    assert stopped.is_set()
    assert "not ended after 0.2 s: stuck" in caplog.text
    assert "failing did not stop cleanly" in caplog.text
    assert "canary" in caplog.text


def test_a_thread_that_never_ends_does_not_hold_the_process() -> None:
    script = """
import sys, threading
from fuseml.embedded import server
server._END_SECONDS = 0.2
threading.Thread(target=threading.Event().wait).start()
server._end_in_time()
"""
    assert "the server ends with work in progress" in commands.python(script).stderr
