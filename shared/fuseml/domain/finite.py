"""Finite numbers among the values that programs and tools report."""

from __future__ import annotations

import math


def number(value: object) -> float | None:
    """The number as a float. None for a whole number that no float can hold, for NaN and infinity, for truth values, and for other data."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
