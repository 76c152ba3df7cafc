"""Output of matrices: the values of combinations, and one table of the results of each matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseml.cli import output, terminal

_INDENT = 2


def values(step: Mapping[str, object]) -> str:
    """The values of a combination as one line, `alpha=0.1 depth=3`; empty for a step without a matrix."""
    listed = " ".join(f"{name}={value}" for name, value in _combination(step).get("values", {}).items())
    return " ".join(listed.split())


def name(step: Mapping[str, object]) -> str:
    """The name of the workflow's step: that of the matrix for a combination, else its own."""
    return str(_combination(step).get("step") or step.get("name"))


def show_results(run: Mapping[str, object]) -> None:
    """Print a table for each matrix of the run: a row for each combination, with as many metrics as fit the terminal."""
    for title, rows in _matrices(run):
        shown, omitted = _columns(rows)
        terminal.echo(f"\nResults of {title}:")
        output.table(rows, shown, indent=_INDENT)
        if omitted:
            terminal.echo(f"  {omitted} more metric{'s' if omitted > 1 else ''}: fuseml run get {run.get('name')} -o json")


def _matrices(run: Mapping[str, object]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    steps = run.get("steps")
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps if isinstance(steps, list) else []:
        if combination := _combination(step):
            grouped.setdefault(name(step), []).append({"name": step["name"], **combination})
    yield from grouped.items()


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[output.Column], int]:
    """The columns of a table, and the number of metrics that find no place in it. The metric that decides comes first and always has one."""
    fixed = [output.Column("Combination", lambda row: row["name"])]
    fixed += [_column("values", title, cut=True) for title in rows[0]["values"]]
    best = output.Column("Best", lambda row: row["best"])
    decisive = [rows[0]["metric"]] if rows[0].get("metric") else []
    names = list(dict.fromkeys([*decisive, *sorted({metric for row in rows for metric in row["metrics"]})]))
    metrics = [_column("metrics", title) for title in names]
    room = output.console().width - _INDENT
    fitting = [
        count
        for count in range(len(metrics) + 1)
        if sum(output.natural_width(column, rows) for column in (*fixed, *metrics[:count], best)) <= room
    ]
    kept = max([*fitting, min(1, len(metrics))])
    return [*fixed, *metrics[:kept], best], len(metrics) - kept


def _column(part: str, title: str, *, cut: bool = False) -> output.Column:
    def read(row: Mapping[str, Any]) -> str:
        value = row[part].get(title, "")
        return f"{value:.6g}" if isinstance(value, float | int) else str(value)

    return output.Column(title, read, cut=cut)


def _combination(step: Mapping[str, object]) -> Mapping[str, Any]:
    combination = step.get("combination")
    return combination if isinstance(combination, dict) else {}
