"""Waiting in tests, in one way and with one bound, so that no test depends on how fast the machine is.

The bound tells a mistake from success and not a slow machine from a fast one; nothing that works comes near it. It lies below the time limit
of a test (pyproject.toml), so that a failure names the event that did not happen.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import urllib3

PATIENCE = 120.0
"""Seconds that anything may take: a condition to hold, a process to start or to end, a request to be answered."""

STORY_PATIENCE = 4 * PATIENCE
"""The same for a whole story: a demo, a storm, one death after the other."""

CLUSTER_PATIENCE = 600.0
"""The same on a cluster, which pulls images and starts pods on the way."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str | Callable[[], str], *, patience: float = PATIENCE, interval: float = 0.02) -> T:
    """The first true value of `condition`, which is asked every `interval` seconds. Fails with `what` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s for {what() if callable(what) else what}")
        time.sleep(interval)
    return value


def wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], T], what: str, output: Callable[[], str]) -> T:
    """The first true value of `ready`, for a server that was just started. Fails with its output, at once when the process has ended."""

    def check() -> T:
        code = process.poll()
        if code is not None:
            raise AssertionError(f"{what} ended with exit code {code} before it was ready:\n{output()}")
        return ready()

    return wait_until(check, lambda: f"{what} to be ready:\n{output()}")


def answers(url: str) -> bool:
    """Whether a GET of the URL is answered with 200; for a server that is just starting."""
    try:
        return urllib3.request("GET", url, retries=False, timeout=PATIENCE).status == 200
    except urllib3.exceptions.HTTPError:
        return False
