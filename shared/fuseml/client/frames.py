"""Runs as data frames of pandas, which is imported here only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fuseml.client import objects

if TYPE_CHECKING:
    import pandas

_FACTS = (
    "name",
    "workflow",
    "revision",
    "project",
    "codeset",
    "commit",
    "ref",
    "state",
    "cause",
    "created",
    "started",
    "finished",
    "duration",
)
_TIMES = ("created", "started", "finished")


def of_runs(runs: Iterable[objects.Run]) -> pandas.DataFrame:
    """A row for each run: its facts, then `input.NAME`, `output.NAME` and `metric.NAME`. Times are in UTC, durations in seconds.

    Raises ModuleNotFoundError without pandas.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise ModuleNotFoundError("data frames need pandas, which is not installed: pip install pandas", name="pandas") from None
    rows = list(runs)
    parts: dict[str, list[Mapping[str, object]]] = {
        "input": [run.inputs or {} for run in rows],
        "output": [run.outputs or {} for run in rows],
        "metric": [run.metrics for run in rows],
    }
    columns: dict[str, list[object]] = {fact: [getattr(run, fact) for run in rows] for fact in _FACTS}
    for part, values in parts.items():
        for name in sorted({name for value in values for name in value}):
            columns[f"{part}.{name}"] = [value.get(name) for value in values]
    frame = pandas.DataFrame(columns)
    return frame.assign(**{name: pandas.to_datetime(frame[name], utc=True) for name in _TIMES})
