"""`fuseml application`."""

from __future__ import annotations

from typing import Annotated

import typer

from fuseml.cli import options, output, session

app = typer.Typer(help="Applications: what runs serve, such as predictions.", **options.GROUP)

_COLUMNS = (
    output.column("Name"),
    output.column("Model"),
    output.column("Status", states=True),
    output.column("URL", "url"),
)
_APPLICATION = (
    output.column("Name"),
    output.column("Type"),
    output.column("Description"),
    output.column("URL", "url"),
    output.column("Workflow"),
    output.column("Project"),
    output.column("Codeset"),
    output.column("Run"),
    output.column("Model"),
    output.column("Runtime"),
    output.column("Status", states=True),
    output.column("Revision"),
    output.column("Namespace", "k8s_namespace"),
)
_RESOURCES = (output.column("Name"), output.column("Kind"))


@app.command(name="list", epilog=options.examples("fuseml application list", "fuseml application list -w mlflow-e2e -o json"))
def list_(
    context: typer.Context,
    type: Annotated[str, options.option("--type", "-t", help="Only of this type.")] = "",
    workflow: Annotated[str, options.option("--workflow", "-w", help="Only of this workflow.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List applications."""
    found = session.connect(context).applications.list(type, workflow)
    output.listing(format, found, _COLUMNS, "There is no application; a workflow's predictor step makes one.")


@app.command(cls=options.Named, epilog=options.examples("fuseml application get demo-diabetes"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show one application: where it answers and what it serves."""
    found = session.connect(context).applications.get(name)
    output.record(format, found, _APPLICATION, ("Resources", "k8s_resources", _RESOURCES))


@app.command(cls=options.Named, epilog=options.examples("fuseml application delete demo-diabetes"))
def delete(context: typer.Context, name: options.Name) -> None:
    """Stop serving an application and delete it."""
    session.connect(context).applications.delete(name)
    typer.echo(f"Application {name} successfully deleted.")
