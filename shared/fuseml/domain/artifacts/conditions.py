"""Conditions on the metrics of artifacts: `metrics.rmse < 0.8`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fuseml.domain import errors

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}

METRIC = r"[A-Za-z0-9_](?:[A-Za-z0-9_./:@ -]{0,248}[A-Za-z0-9_./:@-])?"
"""The pattern of a metric's name; MLflow's names, without a space at either end."""

_CONDITION = re.compile(rf"metrics\.({METRIC})\s*(<=|>=|!=|==|=|<|>)\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,4}})?)")
_LONGEST = 400
_MOST = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a metric with a number. `operator` is one of `OPERATORS`."""

    metric: str
    operator: str
    value: float

    def __str__(self) -> str:
        return f"metrics.{self.metric}{self.operator}{self.value!r}"

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric is known and the comparison true."""
        return self.metric in metrics and OPERATORS[self.operator](metrics[self.metric], self.value)


def comparisons(text: str) -> list[Condition]:
    """The conditions of comparisons that commas separate, `rmse < 0.8, r2 > 0.5`. Raises InvalidError."""
    parts = text.split(",")
    if len(parts) > _MOST:
        raise errors.InvalidError(f"there are {len(parts)} comparisons; the limit is {_MOST}")
    return [parse(f"metrics.{part.strip()}") for part in parts]


def parse(text: str) -> Condition:
    """Raises InvalidError with an example."""
    match = _CONDITION.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    value = float(match[3]) if match else math.inf
    if match is None or not math.isfinite(value):
        raise errors.InvalidError(
            f"{text[:_LONGEST]!r} is not a condition; write `metrics.NAME`, one of {' '.join(OPERATORS)}, and a number: metrics.rmse < 0.8"
        )
    return Condition(match[1], "=" if match[2] == "==" else match[2], value)
