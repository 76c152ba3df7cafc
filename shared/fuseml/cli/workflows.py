"""`fuseml workflow`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from fuseml.cli import options, output, runs, session
from fuseml.domain import errors

app = typer.Typer(help="Workflows: documents of steps, and what starts them.", **options.GROUP)

File = Annotated[
    str, typer.Argument(help="The workflow's document, YAML or JSON; `-` is standard input.", metavar="FILE", show_default=False)
]


def _names(key: str) -> output.Column:
    def read(workflow: Mapping[str, object]) -> object:
        items = workflow.get(key)
        return [item.get("name") for item in items] if isinstance(items, list) else None

    return output.Column(key.title(), read, cut=True)


def _codesets(assignment: Mapping[str, object]) -> object:
    codesets = assignment.get("codesets")
    return [f"{item['project']}/{item['name']}" for item in codesets] if isinstance(codesets, list) else None


def _availability(assignment: Mapping[str, object]) -> str:
    status = assignment.get("status")
    return ("UP" if status.get("available") else "DOWN") if isinstance(status, Mapping) else ""


_COLUMNS = (
    output.column("Name"),
    output.column("Revision"),
    output.column("Description", cut=True),
    _names("inputs"),
    _names("outputs"),
    _names("steps"),
)
_ASSIGNMENTS = (
    output.column("Workflow"),
    output.Column("Codesets", _codesets),
    output.Column("Status", _availability, states=True),
)
_INPUTS = (output.column("Name"), output.column("Type"), output.column("Default", cut=True), output.column("Description", cut=True))
_STEPS = (output.column("Name"), output.column("Image"))


@app.command(epilog=options.examples("fuseml workflow create mlflow-e2e.yaml"))
def create(context: typer.Context, file: File, format: options.Output = output.Format.TABLE) -> None:
    """Create a workflow from its document."""
    document = session.read(file)
    with session.blaming(file):
        workflow = session.connect(context).workflows.create(document)
    output.done(format, workflow, f'Workflow "{workflow["name"]}" successfully created.')


@app.command(epilog=options.examples("fuseml workflow update mlflow-e2e.yaml"))
def update(context: typer.Context, file: File, format: options.Output = output.Format.TABLE) -> None:
    """Make a new revision of the workflow in a document.

    Its name tells which; runs that have begun keep their revision.
    """
    document = session.read(file)
    with session.blaming(file):
        workflow = session.connect(context).workflows.update(_name_in(document), document)
    output.done(format, workflow, f'Workflow "{workflow["name"]}" successfully updated (revision {workflow.get("revision", "?")}).')


def _name_in(text: str) -> str:
    from fuseml.domain import document

    data = document.parse(text).data
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name:
        raise errors.InvalidError("the document names no workflow; it needs a `name`")
    return name


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow get mlflow-e2e", "fuseml workflow get mlflow-e2e -o yaml"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show one workflow, its steps and its latest runs."""
    client = session.connect(context)
    workflow = client.workflows.get(name)
    output.record(
        format,
        workflow,
        (*_COLUMNS[:3], output.Column("Created", lambda item: output.age(item.get("created")))),
        ("Inputs", "inputs", _INPUTS),
        ("Outputs", "outputs", _INPUTS),
        ("Steps", "steps", _STEPS),
    )
    if format is output.Format.TABLE:
        latest = list(client.runs.list(workflow=name, limit=5))
        if latest:
            typer.echo("\nLatest runs:")
            output.table(latest, runs.COLUMNS, indent=2)


@app.command(name="list", epilog=options.examples("fuseml workflow list"))
def list_(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only the one of this name.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List workflows."""
    found = session.connect(context).workflows.list(name)
    output.listing(format, found, _COLUMNS, "There is no workflow yet; `fuseml workflow create FILE` makes one.")


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow delete mlflow-e2e"))
def delete(context: typer.Context, name: options.Name) -> None:
    """Delete a workflow and its assignments; its runs stay."""
    session.connect(context).workflows.delete(name)
    typer.echo(f"Workflow {name} successfully deleted.")


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow assign mlflow-e2e -p demo -c diabetes"))
def assign(context: typer.Context, name: options.Name, codeset_project: options.CodesetProject, codeset_name: options.CodesetName) -> None:
    """Let pushes to a codeset start the workflow.

    The first run starts at once.
    """
    session.connect(context).workflows.assign(name, codeset_project, codeset_name)
    typer.echo(f'Workflow "{name}" assigned to codeset "{codeset_project}/{codeset_name}".')


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow unassign mlflow-e2e -p demo -c diabetes"))
def unassign(
    context: typer.Context, name: options.Name, codeset_project: options.CodesetProject, codeset_name: options.CodesetName
) -> None:
    """Let pushes to a codeset no longer start the workflow."""
    session.connect(context).workflows.unassign(name, codeset_project, codeset_name)
    typer.echo(f'Workflow "{name}" unassigned from codeset "{codeset_project}/{codeset_name}".')


@app.command(epilog=options.examples("fuseml workflow list-assignments"))
def list_assignments(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only of this workflow.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List which workflows are assigned to which codesets."""
    found = session.connect(context).workflows.assignments(name)
    output.listing(format, found, _ASSIGNMENTS, "No workflow is assigned; `fuseml workflow assign` does it.")


@app.command(epilog=options.examples("fuseml workflow list-runs -n mlflow-e2e -p demo", "fuseml workflow list-runs --status failed"))
def list_runs(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only of this workflow.")] = "",
    codeset_project: options.CodesetProject = "",
    codeset_name: options.CodesetName = "",
    status: Annotated[str, options.option("--status", "-s", help="Only in this state.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runs, newest first; `fuseml run list` is the same."""
    runs.show_list(context, format, workflow=name, project=codeset_project, codeset=codeset_name, state=status.lower(), limit=limit)
