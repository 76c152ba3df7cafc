"""Failed starts of a model server, and the pause before the next one: the cause may be temporary, such as a tracking server that starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

_LONGEST_PAUSE = 300


def pause(starts: int) -> int:
    """Seconds until the next start of a revision after `starts` failed ones: 1, 2, 4, ... 300."""
    return min(1 << min(starts - 1, 9), _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class StartFailure:
    """The failed starts of a revision in a row, the cause of the last one, and the monotonic time from which it is started again."""

    revision: int
    cause: str
    starts: int
    again: float

    @property
    def waits(self) -> int:
        """Seconds until then; 0 from then on."""
        return max(0, math.ceil(self.again - time.monotonic()))


def after(former: StartFailure | None, revision: int, cause: str) -> StartFailure:
    """The failure of a start that has just ended; `former` is that of the revision's start before."""
    starts = former.starts + 1 if former is not None else 1
    return StartFailure(revision, cause, starts, time.monotonic() + pause(starts))
