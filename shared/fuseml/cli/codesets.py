"""`fuseml codeset` and `fuseml push`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from fuseml.cli import codeset_status, completion, options, output, runs, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import git
    from fuseml.client.api import Client

app = typer.Typer(help="Codesets: git repositories of ML code.", **options.GROUP)

_COLUMNS = (
    output.column("Name"),
    output.column("Project"),
    output.column("Description", cut=True),
    output.column("Labels", cut=True),
    output.column("URL", "url"),
)

OptionalLocation = Annotated[
    str | None, typer.Argument(metavar="LOCATION", help="Folder, or URL of a public git repository.", show_default=False)
]
CodesetName = Annotated[str, options.option("--name", "-n", help="Name of the codeset.", autocompletion=completion.codesets)]
Labels = Annotated[list[str] | None, options.option("--label", help="A label; may be repeated.")]
Message = Annotated[str, options.option("--message", "-m", help="Commit message.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the runs and the runs they cause; exit 1 if one fails.")]


class Push(TyperCommand):
    """`push LOCATION -n NAME` in the help. The original's `push NAME [LOCATION]` works, too."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer keeps its Context's parent private
        """The pieces of the usage, without the second argument."""
        return super().collect_usage_pieces(ctx)[:-1]


@app.command(
    epilog=options.examples(
        "fuseml codeset register . -p demo -n diabetes",
        "fuseml codeset register ./model -p demo -n diabetes --label sklearn",
        "fuseml codeset register --url https://git.example.com/a/churn.git -n churn",
    )
)
def register(
    context: typer.Context,
    name: CodesetName,
    project: options.Project,
    location: OptionalLocation = None,
    url: Annotated[str, options.option("--url", help="Follow this repository elsewhere instead: its pushes become the codeset's.")] = "",
    host: Annotated[str, options.option("--host", help="Its product: gitea, forgejo, github, gitlab or git.")] = "",
    vcs: Annotated[str, options.option("--vcs", help="EXTENSION/SERVICE with its account; found by the address.")] = "",
    desc: options.Description = "",
    label: Labels = None,
    message: Message = "",
    user: Annotated[str, options.option("--user", help="User of the git host, where the server gives none (FUSEML_PROJECT_USER).")] = "",
    password: Annotated[
        str, options.option("--password", help="Password; `-` reads standard input (better: FUSEML_PROJECT_PASSWORD).")
    ] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Register a codeset: a folder, or a repository elsewhere.

    Creates the project if it does not exist. Files that .gitignore excludes are
    not pushed. With --url the codeset is a copy of another repository; its
    webhook is set up, or the command shows what to enter there.
    """
    labels = [item for entry in label or [] for item in entry.split(",")]
    if url:
        if location is not None or message or user or password:
            raise typer.BadParameter("a copy has no folder, message or account of its own", param_hint="'--url'")
        registered = session.connect(context).codesets.register_copy(
            project, name, url, description=desc, labels=labels, host=host, vcs=vcs
        )
        codeset_status.show_registration(format, registered)
        return
    if location is None:
        raise typer.BadParameter("give the folder, or a repository by --url", param_hint="'LOCATION'")
    if host or vcs:
        raise typer.BadParameter("only a repository by --url has them", param_hint="'--host' / '--vcs'")
    from fuseml.client import pushes

    given = session.settings(context)
    given = dataclasses.replace(given, push_user=user or given.push_user, push_password=session.secret(password) or given.push_password)
    client = session.connect(context)
    with pushes.source(given, location) as folder:
        registration = client.codesets.register(project, name, desc, labels)
        codeset = registration["codeset"]
        if format is output.Format.TABLE:
            terminal.echo(f"Codeset {codeset['url']} successfully registered.")
        result = pushes.send(given, registration, folder, location, message)
    output.done(format, codeset, _push_message(result, project, name))


@app.command(
    cls=Push,
    epilog=options.examples(
        "fuseml codeset push ./model --name diabetes --wait", "fuseml codeset push . -p demo -n diabetes -m 'New features'"
    ),
)
def push(
    context: typer.Context,
    project: options.Project,
    location: Annotated[
        str | None,
        typer.Argument(metavar="LOCATION", show_default=False, help="Folder, or URL of a public git repository; `.` by default."),
    ] = None,
    second: Annotated[str | None, typer.Argument(hidden=True)] = None,
    name: Annotated[
        str, options.option("--name", "-n", help="Name of the codeset; by default the current one.", autocompletion=completion.codesets)
    ] = "",
    message: Message = "",
    wait: Wait = False,
) -> None:
    """Push a folder's files as a new codeset version.

    Registers the codeset and its project if they do not exist. Prints the
    runs that the push starts. Identical files push nothing.
    """
    from fuseml.client import pushes

    name, location = _pushed(context, name, location, second)
    client = session.connect(context)
    result = pushes.push(client, session.settings(context), location, project=project, name=name, message=message)
    terminal.echo(_push_message(result, project, name))
    if result.changed:
        _show_runs(client, project, name, result.commit, wait=wait)


@app.command(cls=options.Named, name="set", epilog=options.examples("fuseml codeset set diabetes -p demo", "fuseml codeset set ''"))
def set_(context: typer.Context, name: options.Name, project: options.Project = "") -> None:
    """Make a codeset the current one, and its project.

    Commands that need a codeset use it unless they name another: `push`,
    `workflow assign`, `workflow run`. An empty NAME removes it.
    """
    settings = session.settings(context)
    if name and not project:
        raise errors.InvalidError("name the codeset's project with -p, or set it: fuseml project set PROJECT")
    if name:
        name = session.connect(context).codesets.get(project, name)["name"]
    file = settings.configure({"codeset": name, **({"project": project} if name else {})})
    current = f"Codeset {project}/{name} is the current one" if name else "No codeset is the current one"
    terminal.echo(f"{current}, saved in {file}.")
    for variable, value, chosen in (("FUSEML_PROJECT", settings.project, project), ("FUSEML_CODESET", settings.codeset, name)):
        if value and value != chosen:
            terminal.echo(f"{variable} is set: commands use {value} nevertheless.", err=True)


@app.command(
    name="list",
    epilog=options.examples("fuseml codeset list", "fuseml codeset list --all", "fuseml codeset list -p demo --label sklearn"),
)
def list_(
    context: typer.Context,
    project: options.Project = "",
    all: Annotated[bool, typer.Option("--all", help="Of all projects, also where one is the current one.")] = False,
    label: Annotated[str, options.option("--label", "-l", help="Only codesets with this label.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List codesets."""
    if all and options.is_given(context, "project"):
        raise typer.BadParameter("give --all or --project, not both", param_hint="'--all'")
    codesets = session.connect(context).codesets.list("" if all else project, label)
    output.listing(format, codesets, _COLUMNS, "There is no matching codeset; `fuseml codeset register` creates one.")


@app.command(epilog=options.examples("fuseml codeset get -p demo -n diabetes"))
def get(context: typer.Context, name: CodesetName, project: options.Project, format: options.Output = output.Format.TABLE) -> None:
    """Show one codeset."""
    output.record(format, session.connect(context).codesets.get(project, name), _COLUMNS)


@app.command(
    cls=options.Named, epilog=options.examples("fuseml codeset status churn -p demo", "fuseml codeset status churn -p demo -o json")
)
def status(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the codeset.", autocompletion=completion.codesets)],
    project: options.Project,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show what is set up for a codeset, and what is missing.

    For a copy of another repository: its webhook with the last delivery, the
    rights of the token, the last synchronisation. Exit code 0 in any case.
    """
    codeset_status.show(format, session.connect(context).codesets.status(project, name))


@app.command(
    epilog=options.examples(
        "fuseml codeset rotate-webhook -p demo -n diabetes", "fuseml codeset rotate-webhook -p demo -n diabetes --revoke"
    )
)
def rotate_webhook(
    context: typer.Context,
    name: CodesetName,
    project: options.Project,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the old secret now: it has leaked.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Replace the secret that signs a codeset's webhooks.

    The git host receives the new secret; the old one stays valid for a day. `-o json` shows the secret, for manual webhooks.
    """
    secret = session.connect(context).codesets.rotate_webhook(project, name, revoke=revoke)
    former = "the old one has ended" if revoke else f"the old one is valid until {secret['former_until']}"
    output.done(format, secret, f"The git host signs the webhooks of {project}/{name} with a new secret; {former}.")


@app.command(epilog=options.examples("fuseml codeset rotate-password -p demo -n diabetes"))
def rotate_password(
    context: typer.Context, name: CodesetName, project: options.Project, format: options.Output = output.Format.TABLE
) -> None:
    """Replace the password of a codeset for git.

    The old password ends at once, also in clones that stored it. Runs on a cluster that have not cloned the code yet fail; resume them.
    """
    registration = session.connect(context).codesets.rotate_password(project, name)
    output.done(
        format,
        registration,
        f"git reads and pushes {project}/{name} with a new password; the old one has ended. User {registration['username']}, "
        f"password {registration['password']}",
    )


@app.command(epilog=options.examples("fuseml codeset delete -p demo -n diabetes"))
def delete(context: typer.Context, name: CodesetName, project: options.Project) -> None:
    """Delete a codeset: its repository and its assignments.

    Unfinished runs on it are cancelled; finished ones stay.
    """
    client = session.connect(context)
    unfinished = client.runs.active(project=project, codeset=name)
    client.codesets.delete(project, name)
    settings = session.settings(context)
    configured = settings.configured()
    if (configured.get("project"), configured.get("codeset")) == (project, name):
        settings.configure({"codeset": ""})
    terminal.echo(f"Codeset {name} successfully deleted.{runs.fate(unfinished, continues=False)}")


def _pushed(context: typer.Context, name: str, first: str | None, second: str | None) -> tuple[str, str]:
    """The name and the location of `push LOCATION -n NAME`, of `push LOCATION` to the current codeset, and of `push NAME [LOCATION]`."""
    if second is not None and first is not None:
        if name:
            raise typer.BadParameter(f"-n {name} and {first} both name the codeset; leave out one", param_hint="'NAME'")
        return first, second
    if name or (first is not None and is_location(first)):
        name = name or session.settings(context).current_codeset()
        if not name:
            raise typer.BadParameter("missing option '--name' / '-n'; there is no current codeset", param_hint="'--name'")
        return name, first or "."
    if first is None:
        return _pushed(context, session.settings(context).current_codeset(), ".", None)
    if Path(first).is_dir():
        raise errors.InvalidError(
            f"{first!r} may be the folder or the codeset; write ./{first} for the folder, or -n {first} for the codeset"
        )
    return first, "."


def is_location(text: str) -> bool:
    """Whether a text is a path or a URL rather than the name of a codeset, which has neither slashes nor dots."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", text) is None


def _push_message(result: git.PushResult, project: str, name: str) -> str:
    if not result.changed:
        return f"Nothing to push: {project}/{name} already has these files (version {result.commit[:12]})."
    return f"Pushed version {result.commit[:12]} of {project}/{name}."


def _show_runs(client: Client, project: str, name: str, commit: str, *, wait: bool) -> None:
    from fuseml.cli import progress, push_results

    if wait:
        progress.to_end(client, push_results.runs_of_push(client, project, name, commit))
    else:
        push_results.show_started(client, project, name, commit)
