"""`fuseml run diff` and `fuseml run compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal
from fuseml.cli.named_run import RunName

app = typer.Typer(**options.GROUP)

_DIFFERENCES = (
    output.column("Kind"),
    output.column("Name"),
    output.Column("First", lambda item: item.get("a"), cut=True),
    output.Column("Second", lambda item: item.get("b"), cut=True),
)


@app.command(epilog=options.examples("fuseml run diff mlflow-e2e-1 mlflow-e2e-2", "fuseml run diff mlflow-e2e-1 mlflow-e2e-2 -o json"))
def diff(
    context: typer.Context,
    run: RunName,
    other: Annotated[str, typer.Argument(help="Name of the run to compare with.", metavar="OTHER", show_default=False)],
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
