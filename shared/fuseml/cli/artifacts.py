"""`fuseml artifact`."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="Artifacts: codeset versions, models, results of runs.", **options.GROUP)

Address = Annotated[str, typer.Argument(help="kind://project/name/version", metavar="ADDRESS", show_default=False)]

_COLUMNS = (
    output.column("Address"),
    output.column("Kind"),
    output.column("Run"),
    output.Column("Age", lambda artifact: output.age(artifact.get("created"))),
)
_ARTIFACT = (
    output.column("Address"),
    output.column("Kind"),
    output.column("Project"),
    output.column("Name"),
    output.column("Version"),
    output.column("Run"),
    output.Column("Age", lambda artifact: output.age(artifact.get("created"))),
)
_EDGES = (output.column("Source"), output.column("Target"), output.column("Run"))


@app.command(name="list", epilog=options.examples("fuseml artifact list --kind model -p demo", "fuseml artifact list --run mlflow-e2e-1"))
def list_(
    context: typer.Context,
    kind: Annotated[str, options.option("--kind", "-k", help="code, model, dataset or runnable.")] = "",
    project: options.Project = "",
    name: Annotated[str, options.option("--name", "-n", help="Only artifacts of this name.")] = "",
    run: Annotated[str, options.option("--run", help="Only artifacts of this run.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List artifacts, by address."""
    artifacts = session.connect(context).artifacts.list(kind=kind, project=project, name=name, run=run, limit=limit)
    output.listing(format, artifacts, _COLUMNS, "There is no matching artifact; pushes and finished runs record artifacts.")


@app.command(epilog=options.examples("fuseml artifact get model://demo/diabetes/1"))
def get(
    context: typer.Context,
    address: Address,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show one artifact with its metadata."""
    artifact = session.connect(context).artifacts.get(address)
    output.record(format, artifact, _ARTIFACT)
    metadata = artifact.get("metadata")
    if format is output.Format.TABLE and metadata:
        terminal.echo("\nMetadata:")
        output.table(
            [{"key": key, "value": value} for key, value in metadata.items()], (output.column("Key"), output.column("Value")), indent=2
        )


@app.command(epilog=options.examples("fuseml artifact lineage model://demo/diabetes/1"))
def lineage(context: typer.Context, address: Address, format: options.Output = output.Format.TABLE) -> None:
    """Show the sources of an artifact, and what was made from it."""
    edges = session.connect(context).artifacts.lineage(address)
    output.listing(format, edges, _EDGES, f"No lineage is recorded for {address}.")
