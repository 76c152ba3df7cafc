"""Thresholds of an evaluation, `accuracy >= 0.9, rmse <= 3`, and the comparison of metrics with them and with another model's.

Pure rules.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuseml.steps import sdk
from fuseml.steps.scoring.metrics import METRICS

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_PART = re.compile(r"\s*(?P<metric>[A-Za-z_][\w-]*)?\s*(?P<operator>[<>=!~]+)?\s*(?P<value>[^\s,;<>=]+)?\s*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Threshold:
    """A condition on a metric."""

    metric: str
    operator: str
    value: float

    def is_met(self, value: float) -> bool:
        return bool(_OPERATORS[self.operator](value, self.value))

    def __str__(self) -> str:
        return f"{self.operator} {self.value:g}"


def parse(text: str) -> list[Threshold]:
    """The thresholds in a text, separated by commas or line ends; all of them must be met. Empty text has none.

    Raises StepError naming the position, counted in characters from 1.
    """
    thresholds = []
    start = 0
    for part in re.split(r"[,;\n]", text):
        if part.strip():
            thresholds.append(_threshold(part, start, text))
        elif text.strip() and start + len(part) < len(text):
            raise _error(start, f"a threshold is missing before '{text[start + len(part)]}'")
        start += len(part) + 1
    return thresholds


def _threshold(part: str, start: int, text: str) -> Threshold:
    match = _PART.match(part)
    if match is None:
        raise AssertionError("every group of the pattern is optional")

    def at(group: str, after: str) -> int:
        return start + (match.start(group) if match[group] else match.end(after) if match[after] else len(part) - len(part.lstrip()))

    metric, sign, value = match["metric"], match["operator"], match["value"]
    if not metric:
        raise _error(start + len(part) - len(part.lstrip()), "the name of a metric is missing")
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, 1)
        advice = f"did you mean '{near[0]}'?" if near else f"use {', '.join(METRICS)}"
        raise _error(at("metric", "metric"), f"there is no metric '{metric}'; {advice}")
    if sign not in _OPERATORS:
        raise _error(
            at("operator", "metric"), f"after '{metric}' one of {' '.join(_OPERATORS)} is needed" + (f", not '{sign}'" if sign else "")
        )
    if not value or not _NUMBER.fullmatch(value):
        raise _error(at("value", "operator"), f"after '{metric} {sign}' a number is needed" + (f", not '{value}'" if value else ""))
    if match.end() < len(part):
        raise _error(start + match.end(), f"'{part[match.end() :].strip()}' is not expected here; separate thresholds by commas")
    return Threshold(metric, sign, float(value))


def _error(position: int, problem: str) -> sdk.StepError:
    return sdk.StepError(f"the input 'thresholds', character {position + 1}: {problem}; an example: accuracy >= 0.9, log_loss < 0.3")


def unmet(metrics: Mapping[str, float], thresholds: Sequence[Threshold]) -> list[str]:
    """A clause with metric, value and threshold for each threshold that the metrics do not meet. Every metric must be known."""
    return [
        f"{item.metric} is {metrics[item.metric]:.6g}, and {item} is required"
        for item in thresholds
        if not item.is_met(metrics[item.metric])
    ]


def worse(metrics: Mapping[str, float], others: Mapping[str, float], names: Sequence[str], tolerance: float) -> list[str]:
    """A clause for each of the metrics that is worse than that of the other model by more than the tolerance, in the metric's own unit."""
    clauses = []
    for name in names:
        loss = others[name] - metrics[name] if METRICS[name].greater_is_better else metrics[name] - others[name]
        if not loss <= tolerance:  # also for NaN
            clauses.append(f"{name} is {metrics[name]:.6g}, and that of the served model {others[name]:.6g} (tolerance {tolerance:g})")
    return clauses
