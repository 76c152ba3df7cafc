"""Waiting in tests: one function and one bound, so that no test depends on the speed of the machine.

The bound ends a wait for a condition that never holds; a correct program stays far below it on a slow machine, too. It is below the time
limit of a test (pyproject.toml), so that a failure names the missing condition.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import urllib3

PATIENCE = 120.0
"""The bound in seconds for one condition, for the start or the end of a process, and for the response to a request."""

SCENARIO_PATIENCE = 4 * PATIENCE
"""The bound in seconds for a scenario of many steps: the demo, a chaos test, a series of crashes."""

CLUSTER_PATIENCE = 600.0
"""The bound in seconds on a cluster, which also pulls images and starts pods."""

T = TypeVar("T")


_SHARE = 0.03
"""A pause as a share of the time waited so far: a wait takes that much longer than its condition needs."""


def wait_until(
    condition: Callable[[], T], description: str | Callable[[], str], *, patience: float = PATIENCE, interval: float | None = None
) -> T:
    """Call `condition` every `interval` seconds; its first true value. Fails with the description after `patience` seconds.

    Without an interval the pauses grow with the wait: questions to a server that is still starting delay its start.
    """
    started = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - started
        if waited > patience:
            raise AssertionError(f"waited {patience:g} s for {description() if callable(description) else description}")
        time.sleep(min(0.3, max(0.02, _SHARE * waited)) if interval is None else interval)
    return value


def wait_until_ready(process: subprocess.Popen[bytes], ready: Callable[[], T], name: str, output: Callable[[], str]) -> T:
    """Wait for a server that was just started; the first true value of `ready`.

    Fails with the output of the server, and immediately if its process ends.
    """

    def check() -> T:
        code = process.poll()
        if code is not None:
            raise AssertionError(f"{name} ended with exit code {code} before it was ready:\n{output()}")
        return ready()

    return wait_until(check, lambda: f"{name} to be ready:\n{output()}")


def answers(url: str) -> bool:
    """Whether GET of the URL returns 200; a server that is still starting may refuse the connection."""
    try:
        return urllib3.request("GET", url, retries=False, timeout=PATIENCE).status == 200
    except urllib3.exceptions.HTTPError:
        return False
