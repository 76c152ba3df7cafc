"""The sudden death of a process at a point that a test chooses."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable


def at(call: int) -> Callable[..., None]:
    """A listener for the points of a process: the `call`-th call, counted from 1, kills the process. It accepts any arguments."""
    reached = itertools.count(1)

    def point(*_: object) -> None:
        if next(reached) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    return point
