"""The rule by which a combination is the best of its matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence


def metrics(output: str) -> dict[str, float]:
    """The finite numbers in the output `metrics` of a combination, by name; empty for an output of another shape."""
    try:
        loaded = json.loads(output or "{}")
    except ValueError:
        return {}
    return {name: number for name, value in loaded.items() if (number := _number(value)) is not None} if isinstance(loaded, dict) else {}


def best(found: Sequence[float | None], goal: str) -> int | None:
    """The index of the least (`min`) or greatest (`max`) number, the first of equal ones; None without a number.

    A combination without the metric, with NaN or an infinite value of it, is never the best.
    """
    numbers = [(number, index) for index, number in enumerate(found) if number is not None and math.isfinite(number)]
    sign = 1 if goal == "min" else -1
    return min(numbers, key=lambda item: sign * item[0])[1] if numbers else None


def _number(value: object) -> float | None:
    try:
        # MLflow's JSON may hold numbers as text.
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
