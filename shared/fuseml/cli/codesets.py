"""`fuseml codeset` and `fuseml push`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from fuseml.cli import options, output, session

if TYPE_CHECKING:
    from fuseml.client import git, shapes
    from fuseml.client.api import Client

app = typer.Typer(help="Codesets: git repositories of ML code.", **options.GROUP)

_COLUMNS = (
    output.column("Name"),
    output.column("Project"),
    output.column("Description", cut=True),
    output.column("Labels", cut=True),
    output.column("URL", "url"),
)

Location = Annotated[str, typer.Argument(metavar="LOCATION", help="A folder, or the URL of a public git repository.")]
CodesetName = Annotated[str, options.option("--name", "-n", help="The codeset's name.")]
Labels = Annotated[list[str] | None, options.option("--label", help="A label; may be repeated.")]
Message = Annotated[str, options.option("--message", "-m", help="The commit's message.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the runs and all they lead to; exit 1 if one fails.")]


@app.command(
    epilog=options.examples(
        "fuseml codeset register . -p demo -n diabetes",
        "fuseml codeset register ./model -p demo -n diabetes --label sklearn",
    )
)
def register(
    context: typer.Context,
    location: Location,
    name: CodesetName,
    project: options.Project,
    desc: options.Description = "",
    label: Labels = None,
    message: Message = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register a codeset and push a folder's files to it.

    Its project is made if need be; what .gitignore excludes is not pushed.
    """
    client = session.connect(context)
    registration = client.codesets.register(project, name, desc, [item for entry in label or [] for item in entry.split(",")])
    codeset = registration["codeset"]
    if format is output.Format.TABLE:
        typer.echo(f"Codeset {codeset['url']} successfully registered.")
    pushed = _push(context, registration, location, message)
    output.done(format, codeset, _pushed_sentence(pushed, project, name))


def push(
    context: typer.Context,
    name: CodesetName,
    project: options.Project,
    location: Location = ".",
    message: Message = "",
    wait: Wait = False,
) -> None:
    """Push a folder's files as a new codeset version.

    Registers the codeset, and its project, when needed; identical files push nothing.
    """
    client = session.connect(context)
    pushed = _push(context, client.codesets.register(project, name), location, message)
    typer.echo(_pushed_sentence(pushed, project, name))
    if wait and pushed.changed:
        _follow(client, project, name, pushed.commit)


@app.command(name="list", epilog=options.examples("fuseml codeset list", "fuseml codeset list -p demo --label sklearn"))
def list_(
    context: typer.Context,
    project: options.Project = "",
    label: Annotated[str, options.option("--label", "-l", help="Only those with this label.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List codesets."""
    found = session.connect(context).codesets.list(project, label)
    output.listing(format, found, _COLUMNS, "There is no such codeset yet; `fuseml codeset register` makes one.")


@app.command(epilog=options.examples("fuseml codeset get -p demo -n diabetes"))
def get(context: typer.Context, name: CodesetName, project: options.Project, format: options.Output = output.Format.TABLE) -> None:
    """Show one codeset."""
    output.record(format, session.connect(context).codesets.get(project, name), _COLUMNS)


@app.command(epilog=options.examples("fuseml codeset rotate-webhook -p demo -n diabetes"))
def rotate_webhook(
    context: typer.Context, name: CodesetName, project: options.Project, format: options.Output = output.Format.TABLE
) -> None:
    """Replace the secret that signs a codeset's webhooks.

    The git host is told, and the old secret stays good for a day. `-o json` shows the new one, for webhooks made by hand.
    """
    made = session.connect(context).codesets.rotate_webhook(project, name)
    output.done(
        format,
        made,
        f"The git host signs the webhooks of {project}/{name} with a new secret; the old one is good until {made['former_until']}.",
    )


@app.command(epilog=options.examples("fuseml codeset delete -p demo -n diabetes"))
def delete(context: typer.Context, name: CodesetName, project: options.Project) -> None:
    """Delete a codeset: its repository and its assignments."""
    session.connect(context).codesets.delete(project, name)
    typer.echo(f"Codeset {name} successfully deleted.")


def _remote(context: typer.Context, registration: shapes.Registration) -> git.Remote:
    """The way to push: with the credentials that registering handed out, else those of the settings, else the API token."""
    from fuseml.client import git

    chosen = session.settings(context)
    user = registration.get("username") or chosen.push_user or "fuseml"
    password = registration.get("password") or chosen.push_password or chosen.access_token() or ""
    return git.Remote(registration["codeset"]["url"], user, password, chosen.environment)


def _push(context: typer.Context, registration: shapes.Registration, location: str, message: str) -> git.Pushed:
    from fuseml.client import git

    destination = _remote(context, registration)
    text = message or f"New codeset update from {location}"
    if not urlsplit(location).netloc:
        return destination.push_folder(Path(location).resolve(), text)
    with tempfile.TemporaryDirectory(prefix="fuseml-source-") as scratch:
        source = Path(scratch) / "source"
        git.clone_source(location, source, destination.environment)
        return destination.push_folder(source, text)


def _pushed_sentence(pushed: git.Pushed, project: str, name: str) -> str:
    if not pushed.changed:
        return f"Nothing to push: {project}/{name} already has exactly these files (version {pushed.commit[:12]})."
    return f"Pushed version {pushed.commit[:12]} of {project}/{name}."


def _follow(client: Client, project: str, name: str, commit: str) -> None:
    from fuseml.cli import progress

    found = progress.appear(
        lambda: client.runs.list(project=project, codeset=name, commit=commit),
        f"the push started no run; is a workflow assigned? `fuseml workflow assign NAME -p {project} -c {name}`",
    )
    progress.to_end(client, found)
