"""The metrics of runs: columns of lists, and the order of lists."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from fuseml.cli import output
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes

_KEYS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "name": output.field("name"),
    "workflow": output.field("workflow"),
    "state": output.field("state"),
    "started": lambda run: run.get("started") or run.get("created"),
    "duration": lambda run: output.seconds_between(run.get("started"), run.get("finished")),
}
KEYS = ", ".join(_KEYS)
"""The names of the orders that every run has; each metric is one, too."""


def of(run: Mapping[str, object]) -> dict[str, float]:
    """The metrics of a run, as `NAME` (of the last step that has it) and `STEP.NAME`."""
    from fuseml.client import objects

    found = objects.step_metrics(cast("shapes.Run", run))
    qualified = {f"{step}.{name}": number for step, numbers in found.items() for name, number in numbers.items()}
    return qualified | {name: number for numbers in found.values() for name, number in numbers.items()}


def number(value: float | None) -> str:
    """A number with six digits; empty without one."""
    return "" if value is None else f"{value:.6g}"


def column(name: str) -> output.Column:
    """The column of a metric."""
    return output.Column(name, lambda run: number(of(run).get(name)))


def check(runs: Sequence[shapes.Run], names: Sequence[str]) -> None:
    """Raises NotFoundError for a metric that none of the runs has, where there are runs."""
    known = dict.fromkeys(name for run in runs for name in of(run))
    for name in names:
        if runs and name not in known:
            raise errors.NotFoundError(f"no listed run has a metric {name!r}{_suggestion(name, list(known))}")


def ordered(runs: Sequence[shapes.Run], key: str, *, reverse: bool) -> list[shapes.Run]:
    """The runs by a key of `KEYS` or a metric, ascending, or descending with `reverse`. Runs without the value come last.

    Raises InvalidError for a key that no run has.
    """
    read = _KEYS.get(key) or (lambda run: of(run).get(key))
    values = [(read(run), run) for run in runs]
    if runs and key not in _KEYS and not any(value is not None for value, _ in values):
        known = [*_KEYS, *dict.fromkeys(name for run in runs for name in of(run))]
        raise errors.InvalidError(f"no listed run has a value {key!r} to sort by{_suggestion(key, known)}")
    with_value = [(value, run) for value, run in values if value is not None]
    with_value.sort(key=lambda item: item[0], reverse=reverse)  # type: ignore[arg-type, return-value]  # all texts or all numbers
    return [run for _, run in (*with_value, *((value, run) for value, run in values if value is None))]


def _suggestion(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(known[:12])}" if known else ""
