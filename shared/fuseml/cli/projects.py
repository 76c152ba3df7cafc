"""`fuseml project`."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from fuseml.cli import options, output, session, terminal

app = typer.Typer(help="Projects: tenants that own codesets, runs and artifacts.", **options.GROUP)

_COLUMNS = (
    output.column("Name"),
    output.Column("Current", lambda project: "yes" if project.get("current") else None),
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


@app.command(cls=options.Named, name="set", epilog=options.examples("fuseml project set demo", "fuseml project set ''"))
def set_(context: typer.Context, name: options.Name) -> None:
    """Make a project the current one.

    Commands that take -p use it unless -p names another; `-p ''` stands for none. An empty NAME removes it.
    """
    settings = session.settings(context)
    if name:
        name = str(session.connect(context).projects.get(name)["name"])
    # A codeset is one of its project.
    other = settings.configured().get("project", "") != name
    file = settings.configure({"project": name, **({"codeset": ""} if other else {})})
    terminal.echo(f"{f'Project {name} is the current one' if name else 'No project is the current one'}, saved in {file}.")
    if settings.project and settings.project != name:
        terminal.echo(f"FUSEML_PROJECT is set: commands use {settings.project} nevertheless.", err=True)


@app.command(name="list", epilog=options.examples("fuseml project list", "fuseml project list -o json"))
def list_(context: typer.Context, format: options.Output = output.Format.TABLE) -> None:
    """List all projects."""
    projects: Iterable[options.Item] = session.connect(context).projects.list()
    if format is output.Format.TABLE:
        current = session.settings(context).current_project()
        projects = [{**project, "current": project["name"] == current} for project in projects]
    output.listing(format, projects, _COLUMNS, "There is no project; `fuseml project create NAME` creates one.")


@app.command(cls=options.Named, epilog=options.examples("fuseml project get demo"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show one project."""
    output.record(format, session.connect(context).projects.get(name), _COLUMNS)


@app.command(cls=options.Named, epilog=options.examples("fuseml project delete demo"))
def delete(context: typer.Context, name: options.Name) -> None:
    """Delete a project without codesets."""
    session.connect(context).projects.delete(name)
    settings = session.settings(context)
    if settings.configured().get("project") == name:
        settings.configure({"project": "", "codeset": ""})
    terminal.echo(f"Project {name} successfully deleted.")
