"""The facts of several runs side by side: what they were given, what they made, and how long they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.cli import output

if TYPE_CHECKING:
    from fuseml.client import lineage_shapes, shapes

Value = str | float | None

DURATION, METRIC = "duration", "metric"
TITLES: Mapping[str, str] = {
    "workflow": "Workflows",
    "code": "Code",
    "data": "Data",
    "parameter": "Parameters",
    "tool": "Tools",
    "image": "Images",
    "step": "Steps",
    "result": "Results",
    METRIC: "Metrics",
    "output": "Outputs",
    "artifact": "Artifacts",
    DURATION: "Durations",
}
"""The kinds of facts in their order, with the titles of their tables."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of runs: its value for each run, None where a run has none. Metrics are numbers, durations seconds."""

    kind: str
    name: str
    values: Mapping[str, Value]

    @property
    def equal(self) -> bool:
        """Whether all runs have the same value."""
        return len(set(self.values.values())) <= 1

    @property
    def _is_detail(self) -> bool:
        return self.kind == "tool" and not self.name.endswith(".service")

    @property
    def matters(self) -> bool:
        """Whether the fact is worth showing: the runs differ in it, or it is a metric or a duration.

        A variable of a step that only some runs have, such as those of a run that never started, is not, and of a tool that only some runs
        have, its name is enough.
        """
        if None in self.values.values() and ((self.kind == "parameter" and "." in self.name) or self._is_detail):
            return False
        return not self.equal or self.kind in (METRIC, DURATION)


def of(runs: Sequence[shapes.Run], differences: Sequence[lineage_shapes.RunDiff]) -> list[Fact]:
    """The facts of runs, by kind. `differences` are all facts of the first run and of each other one, in the order of the runs.

    A comparison leaves out the variable of a step that an input shows already; such a fact is left out here, too.
    """
    first = runs[0]["name"]
    values: dict[tuple[str, str], dict[str, Value]] = {}
    for run, found in zip(runs[1:], differences, strict=True):
        for item in found["differences"]:
            entry = values.setdefault((item["kind"], item["name"]), {})
            entry[first], entry[run["name"]] = _value(item["kind"], item["a"]), _value(item["kind"], item["b"])
    names = [run["name"] for run in runs]
    facts = [
        Fact(kind, name, {run: entry.get(run) for run in names})
        for (kind, name), entry in values.items()
        if entry[first] is None or len(entry) == len(names)
    ]
    facts += _durations(runs)
    order = {kind: number for number, kind in enumerate(TITLES)}
    return sorted(facts, key=lambda fact: order.get(fact.kind, len(order)))


def _value(kind: str, text: str | None) -> Value:
    return float(text) if kind == METRIC and text is not None else text


def _durations(runs: Sequence[shapes.Run]) -> list[Fact]:
    spent: dict[str, dict[str, Value]] = {"run": {run["name"]: _seconds(run) for run in runs}}
    for run in runs:
        for step in run["steps"]:
            spent.setdefault(step["name"], {})[run["name"]] = _seconds(step)
    facts = [Fact(DURATION, name, {run["name"]: values.get(run["name"]) for run in runs}) for name, values in spent.items()]
    return [fact for fact in facts if any(value is not None for value in fact.values.values())]


def _seconds(item: Mapping[str, object]) -> float | None:
    seconds = output.seconds_between(item.get("started"), item.get("finished")) if item.get("finished") else None
    return None if seconds is None else round(seconds, 3)
