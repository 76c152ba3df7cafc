"""Work, measured in calls of functions: unlike seconds, they do not depend on the machine or on what else it does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fails as soon as the block has made more calls of functions, Python's and C's, in this thread."""
    left = calls

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal left
        if event in ("call", "c_call"):
            left -= 1
            assert left >= 0, f"more than {calls:,} calls of functions"

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextlib.contextmanager
def recorded() -> Iterator[list[object]]:
    """The C functions that the block calls in this thread: what it asks of the network, for one."""
    calls: list[object] = []

    def note(_frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call":
            calls.append(argument)

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
