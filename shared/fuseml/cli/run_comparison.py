"""`fuseml run diff` and `fuseml run compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import charts, completion, options, output, run_facts, session, terminal
from fuseml.cli.named_run import RunName
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

app = typer.Typer(**options.GROUP)


def _of_difference(item: Mapping[str, object], side: str) -> object:
    """The value of one run: numbers as short as in a comparison."""
    value = item.get(side)
    return charts.text(float(value)) if item.get("kind") == run_facts.METRIC and isinstance(value, str) else value


_DIFFERENCES = (
    output.column("Kind"),
    output.Column("Name", output.field("name"), fold=True),
    output.Column("First", lambda item: _of_difference(item, "a"), fold=True),
    output.Column("Second", lambda item: _of_difference(item, "b"), fold=True),
)


@app.command(epilog=options.examples("fuseml run diff mlflow-e2e-1 mlflow-e2e-2", "fuseml run diff mlflow-e2e-1 mlflow-e2e-2 -o json"))
def diff(
    context: typer.Context,
    run: RunName,
    other: Annotated[
        str, typer.Argument(help="Name of the run to compare with.", metavar="OTHER", show_default=False, autocompletion=completion.runs)
    ],
    all: Annotated[bool, typer.Option("--all", help="Show equal facts, too.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the differences of two runs.

    Code, data, parameters, tools and images, then metrics, outputs and the digests of artifacts. Secrets appear by name, never by value.
    """
    found = session.connect(context).runs.diff(run, other, everything=all)
    if format is not output.Format.TABLE:
        output.dump(format, found)
    elif not found["differences"]:
        terminal.echo(f"{run} and {other} do not differ.", err=True)
    else:
        output.table(found["differences"], _DIFFERENCES)


# The columns of a run on a narrow terminal.
_NARROW = 14


@app.command(
    epilog=options.examples(
        "fuseml run compare mlflow-e2e-1 mlflow-e2e-2",
        "fuseml run compare --last 5 --metric rmse --plot",
        "fuseml run compare mlflow-e2e-1 mlflow-e2e-2 --to comparison.html",
    )
)
def compare(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of runs; the newest ones of the project by default.",
            metavar="RUN",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ] = None,
    project: options.Project = "",
    last: Annotated[int, typer.Option("--last", min=2, max=50, metavar="N", help="Without RUN, the N newest runs.")] = 2,
    metric: Annotated[list[str] | None, options.option("--metric", metavar="NAME", help="Only this metric; may be repeated.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Show equal facts, too.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the metrics and durations as bars.")] = False,
    to: Annotated[str, options.option("--to", metavar="FILE", help="Write the bars to FILE: .html (with tables), .svg or .png.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Compare runs side by side.

    Parameters, code, data, tools and images in which the runs differ, and
    their metrics and durations. A page of HTML needs no network.
    """
    if to:
        charts.kind_of(Path(to))
    client = session.connect(context)
    compared = _runs(client, runs or [], project, last)
    others = [client.runs.diff(compared[0]["name"], run["name"], everything=True) for run in compared[1:]]
    facts = list(_of_metrics(run_facts.of(compared, others), metric or ()))
    names = [run["name"] for run in compared]
    shown = [fact for fact in facts if all or fact.matters]
    if format is not output.Format.TABLE:
        listed = [{"kind": fact.kind, "name": fact.name, "equal": fact.equal, "values": dict(fact.values)} for fact in shown]
        output.dump(format, {"runs": names, "facts": listed})
    else:
        _show(shown, names)
        if plot:
            charts.show(_charts(facts))
    if to:
        tables = {title: [["", *names], *([fact.name, *_texts(fact, names)] for fact in group)] for title, group in _groups(shown)}
        charts.write(Path(to), f"Runs {', '.join(names)}", _charts(facts), tables)
        terminal.echo(f"{to} is written.", err=True)


def _runs(client: Client, names: Sequence[str], project: str, last: int) -> list[shapes.Run]:
    if len(names) == 1 or len(set(names)) < len(names):
        raise errors.InvalidError("a comparison needs two or more different runs; name them, or none for the newest ones of the project")
    found = [client.runs.get(name) for name in names] or list(client.runs.list(project=project, limit=last))
    if len(found) < 2:
        where = f" in project {project}" if project else ""
        raise errors.NotFoundError(f"there are fewer than two runs{where}; `fuseml run list` shows the runs")
    # The newest runs, the oldest of them first.
    return found if names else found[::-1]


def _of_metrics(facts: Sequence[run_facts.Fact], metrics: Sequence[str]) -> Iterator[run_facts.Fact]:
    """All facts but the metrics that were not asked for, where some were: as `NAME` or as `STEP.NAME`."""
    known = {name for fact in facts if fact.kind == run_facts.METRIC for name in (fact.name, fact.name.partition(".")[2])}
    for name in metrics:
        if name not in known:
            raise errors.NotFoundError(f"no run has a metric {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
    for fact in facts:
        if fact.kind != run_facts.METRIC or not metrics or fact.name in metrics or fact.name.partition(".")[2] in metrics:
            yield fact


def _groups(facts: Sequence[run_facts.Fact]) -> Iterator[tuple[str, list[run_facts.Fact]]]:
    for kind, title in run_facts.TITLES.items():
        if group := [fact for fact in facts if fact.kind == kind]:
            yield title, group


def _show(facts: Sequence[run_facts.Fact], names: Sequence[str]) -> None:
    """A table for each kind of fact, with a column for each run; runs that do not fit the terminal follow below."""
    widest = min(max((len(fact.name) for fact in facts), default=0), output.console().width // 3)
    fitting = max((output.console().width - widest - 4) // _NARROW, 1)
    for start in range(0, len(names), fitting):
        part = names[start : start + fitting]
        for title, group in _groups(facts):
            rows = [{"name": fact.name, **dict(zip(part, _texts(fact, part), strict=True))} for fact in group]
            terminal.echo(f"{title}:")
            output.table(rows, [output.Column("", output.field("name"), fold=True), *(_run_column(run) for run in part)], indent=2)
            terminal.echo()


def _run_column(run: str) -> output.Column:
    return output.Column(run, output.field(run), fold=True, name=True)


def _texts(fact: run_facts.Fact, names: Sequence[str]) -> list[str]:
    return [_text(fact.kind, fact.values.get(name)) for name in names]


def _text(kind: str, value: run_facts.Value) -> str:
    if kind == run_facts.DURATION and isinstance(value, float):
        return output.duration(value)
    return charts.text(value) if isinstance(value, float) else value or "-"


def _charts(facts: Sequence[run_facts.Fact]) -> list[charts.Chart]:
    plotted = [fact for fact in facts if fact.kind == run_facts.METRIC or (fact.kind, fact.name) == (run_facts.DURATION, "run")]
    if not plotted:
        raise errors.NotFoundError("the runs have neither metrics nor durations to draw")
    return [
        charts.Chart("duration in seconds" if fact.kind == run_facts.DURATION else fact.name, _numbers(fact.values)) for fact in plotted
    ]


def _numbers(values: Mapping[str, run_facts.Value]) -> dict[str, float | None]:
    return {run: value if isinstance(value, float) else None for run, value in values.items()}
