"""The clock of this machine: the present moment, and moments around it, in the format of `domain.times`."""

from __future__ import annotations

import datetime

from fuseml.domain import times


def now() -> str:
    """The present moment, `2026-11-21T02:41:41.123456Z`."""
    return times.render(datetime.datetime.now(datetime.UTC))


def ago(seconds: float) -> str:
    """The moment so many seconds before now."""
    return times.shift(now(), -seconds)


def ahead(seconds: float) -> str:
    """The moment so many seconds after now."""
    return times.shift(now(), seconds)
