"""The work of a block, measured in function calls, which do not depend on the speed or the load of the machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fail as soon as the block makes more function calls, of Python or C, in this thread."""
    left = calls

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal left
        if event in ("call", "c_call"):
            left -= 1
            assert left >= 0, f"more than {calls:,} function calls"

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextlib.contextmanager
def recorded() -> Iterator[list[object]]:
    """The C functions that the block calls in this thread, among them those of the network."""
    calls: list[object] = []

    def note(_frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call":
            calls.append(argument)

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
