"""`fuseml artifact`."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session

app = typer.Typer(help="Artifacts: codeset versions, models, what runs make.", **options.GROUP)

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
    name: Annotated[str, options.option("--name", "-n", help="Only of this name.")] = "",
    run: Annotated[str, options.option("--run", help="Only what this run made.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List artifacts, by address."""
    found = session.connect(context).artifacts.list(kind=kind, project=project, name=name, run=run, limit=limit)
    output.listing(format, found, _COLUMNS, "There is no such artifact; pushed code and finished runs record them.")


@app.command(epilog=options.examples("fuseml artifact get model://demo/diabetes/1"))
def get(
    context: typer.Context,
    address: Address,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show one artifact and what is recorded about it."""
    artifact = session.connect(context).artifacts.get(address)
    output.record(format, artifact, _ARTIFACT)
    metadata = artifact.get("metadata")
    if format is output.Format.TABLE and metadata:
        typer.echo("\nMetadata:")
        output.table(
            [{"key": key, "value": value} for key, value in metadata.items()], (output.column("Key"), output.column("Value")), indent=2
        )


@app.command(epilog=options.examples("fuseml artifact lineage model://demo/diabetes/1"))
def lineage(context: typer.Context, address: Address, format: options.Output = output.Format.TABLE) -> None:
    """Show what an artifact was made from and what was made of it."""
    found = session.connect(context).artifacts.lineage(address)
    output.listing(format, found, _EDGES, f"Nothing is known of where {address} came from.")
