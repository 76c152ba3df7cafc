"""Settings of all tests: Hypothesis runs all of its examples on a slow machine, too, Ctrl-C interrupts the commands of tests, more workers than
cores run them, each file begins with the same mask of modes, and the garbage collector leaves alone the modules and tests, which stay until the end.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("fuseml", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# `--hypothesis-profile deep`, as `task fuzz` runs it.
hypothesis.settings.register_profile("deep", hypothesis.settings.get_profile("fuseml"), max_examples=200)
hypothesis.settings.load_profile("fuseml")

# A shell starts a background command with SIGINT ignored, and processes inherit that: without this, `task test &` could not interrupt its commands.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A third of the time of the collection of thousands of tests would be spent on visits of what the collection keeps.
gc.disable()


def pytest_collection_finish() -> None:
    """From now on collect the garbage of the tests, without visits of what was collected: a million objects in each worker."""
    gc.collect()
    gc.freeze()
    # Less often than every 700 objects: a twentieth of the time of tests of components.
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _mask_of_modes() -> Iterator[None]:
    """A server or backup in the process of a test keeps the files of its home private, and those of later tests with them."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three workers a core: half of the time of the tests is waiting for servers and processes."""
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import FileScheduling

    return FileScheduling(config, log)
