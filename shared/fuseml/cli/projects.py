"""`fuseml project`."""

from __future__ import annotations

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="Projects: tenants that own codesets, runs and artifacts.", **options.GROUP)

_COLUMNS = (
    output.column("Name"),
    output.column("Description", cut=True),
    output.Column("Users", lambda project: [user.get("name") for user in _users(project)], cut=True),
)


def _users(project: options.Item) -> list[dict[str, object]]:
    users = project.get("users")
    return users if isinstance(users, list) else []


@app.command(cls=options.Named, epilog=options.examples('fuseml project create demo --desc "First steps"'))
def create(
    context: typer.Context, name: options.Name, desc: options.Description = "", format: options.Output = output.Format.TABLE
) -> None:
    """Create a project."""
    project = session.connect(context).projects.create(name, desc)
    output.done(format, project, f"Project {name} successfully created.")


@app.command(name="list", epilog=options.examples("fuseml project list", "fuseml project list -o json"))
def list_(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """List all projects."""
    output.listing(
        format, session.connect(context).projects.list(), _COLUMNS, "There is no project; `fuseml project create NAME` creates one."
    )


@app.command(cls=options.Named, epilog=options.examples("fuseml project get demo"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show one project."""
    output.record(format, session.connect(context).projects.get(name), _COLUMNS)


@app.command(cls=options.Named, epilog=options.examples("fuseml project delete demo"))
def delete(context: typer.Context, name: options.Name) -> None:
    """Delete a project without codesets."""
    session.connect(context).projects.delete(name)
    terminal.echo(f"Project {name} successfully deleted.")
