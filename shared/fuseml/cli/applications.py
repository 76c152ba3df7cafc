"""`fuseml application`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import application_calls, completion, options, output, session, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import application_shapes
    from fuseml.client.applications import Applications

app = typer.Typer(help="Applications: served models and other services of runs.", **options.GROUP)


def _answers(application: Mapping[str, object], *, models: bool = False) -> str:
    """The revisions that answer, with their shares if there are several; empty if unknown."""
    shares = application.get("answering")
    if not isinstance(shares, list):
        return ""
    several = len(shares) > 1
    parts = [
        f"revision {share['revision']}" + (f" ({share['model']})" if models else "") + (f" {share['percent']} %" if several else "")
        for share in shares
    ]
    return ", ".join(parts) or "no revision"


def _requested(item: Mapping[str, object]) -> str:
    """The moving address of the model, and whether the application follows it."""
    return f"{item['requested']}{', followed' if item.get('follow') else ''}" if item.get("requested") else ""


def _behind(item: Mapping[str, object]) -> str:
    """The version that the address names by now, or the reason why it is not known."""
    if item.get("behind"):
        return f"{item.get('requested')} is {item['behind']} now"
    return str(item.get("address_problem") or "")


_COLUMNS = (
    output.column("Name"),
    output.column("Model"),
    output.column("Status", states=True),
    output.Column("Answers", _answers),
    output.Column("Behind", _behind, cut=True),
    output.Column("URL", output.field("url"), fold=True, minor=True),
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
    output.Column("Requested", _requested),
    output.Column("Behind", _behind),
    output.column("Digest"),
    output.column("Runtime"),
    output.column("Status", states=True),
    output.column("Cause"),
    output.Column("Answers", lambda item: _answers(item, models=True)),
    output.column("Revision"),
    output.Column("Public", lambda item: "yes" if item.get("public") else "no"),
    output.column("Namespace", "k8s_namespace"),
)
_TRAFFIC = (output.column("Revision"), output.column("Percent"), output.column("Model"))
_RESOURCES = (output.column("Name"), output.column("Kind"))
_PATIENCE = 300.0

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until these revisions answer; exit 1 if they cannot.")]


@app.command(name="list", epilog=options.examples("fuseml application list", "fuseml application list --workflow mlflow-e2e -o json"))
def list_(
    context: typer.Context,
    type: Annotated[str, options.option("--type", "-t", help="Only applications of this type.")] = "",
    workflow: Annotated[
        str, options.option("--workflow", help="Only applications of this workflow.", autocompletion=completion.workflows)
    ] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List applications."""
    applications = session.connect(context).applications.list(type, workflow)
    output.listing(format, applications, _COLUMNS, "There is no matching application; the predictor step of a workflow creates one.")


app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml application call demo-diabetes --example",
        "fuseml application call demo-diabetes -d row.json",
        'fuseml application call demo-diabetes -d \'{"age": 0.05, "bmi": 0.06}\'',
    ),
)(application_calls.call)


@app.command(cls=options.Named, epilog=options.examples("fuseml application get demo-diabetes"))
def get(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """Show one application, its traffic and its status."""
    application = session.connect(context).applications.get(name)
    output.record(format, application, _APPLICATION, ("Traffic", "traffic", _TRAFFIC), ("Resources", "k8s_resources", _RESOURCES))


@app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml application traffic demo-diabetes current=90 previous=10", "fuseml application traffic demo-diabetes 3=100"
    ),
)
def traffic(
    context: typer.Context,
    name: options.Name,
    shares: Annotated[
        list[str], typer.Argument(metavar="REVISION=PERCENT...", show_default=False, help="Revision: current, previous, or a number.")
    ],
    wait: Wait = True,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Split requests among revisions, until the next revision."""
    applications = session.connect(context).applications
    _show_routed(applications, applications.route(name, _percents(shares)), format, wait=wait)


@app.command(
    cls=options.Named,
    epilog=options.examples("fuseml application rollback demo-diabetes", "fuseml application rollback demo-diabetes --no-wait"),
)
def rollback(context: typer.Context, name: options.Name, wait: Wait = True, format: options.Output = output.Format.TABLE) -> None:
    """Send all requests to the previous revision."""
    applications = session.connect(context).applications
    _show_routed(applications, applications.roll_back(name), format, wait=wait)


@app.command(
    cls=options.Named,
    epilog=options.examples("fuseml application publish demo-diabetes", "fuseml application publish demo-diabetes --no-public"),
)
def publish(
    context: typer.Context,
    name: options.Name,
    public: Annotated[bool, typer.Option("--public/--no-public", help="Open the application, or close it.")] = True,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Let every caller get predictions, without a token.

    By default only callers inside the cluster do, and on `fuseml up` callers with a token.
    """
    application = session.connect(context).applications.publish(name, public=public)
    state = "is public" if public else "is no longer public"
    output.done(format, application, f"Application {name} {state}: {application.get('url') or 'it has no address yet'}.")


@app.command(cls=options.Named, epilog=options.examples("fuseml application delete demo-diabetes"))
def delete(context: typer.Context, name: options.Name) -> None:
    """Stop serving an application and delete it."""
    session.connect(context).applications.delete(name)
    terminal.echo(f"Application {name} successfully deleted.")


def _percents(shares: Sequence[str]) -> dict[str, int]:
    percents: dict[str, int] = {}
    for revision, percent in options.named(shares, "revision").items():
        if not percent.removesuffix("%").isdecimal():
            raise errors.InvalidError(f"{percent!r} is not a share of revision {revision}; write percent, such as {revision}=90")
        percents[revision] = int(percent.removesuffix("%"))
    return percents


def _show_routed(applications: Applications, routed: application_shapes.Application, format: output.Format, *, wait: bool) -> None:
    """Print an application whose requests were routed anew. With `wait` once it answers so; raises PermanentError if it cannot."""
    name = routed["name"]
    application = _settled(applications, routed) if wait else routed
    failed = wait and application.get("status") == "failed"
    if not failed or format is not output.Format.TABLE:
        output.done(format, application, f"Application {name}: {_traffic(application)}.")
    if failed:
        now = _answers(application, models=True)
        raise errors.PermanentError(f"application {name!r} cannot answer as routed: {application.get('cause')}; answering now: {now}")


def _settled(applications: Applications, routed: application_shapes.Application) -> application_shapes.Application:
    """The application once it is no longer starting; the causes of the wait go to the standard error."""
    latest, name, shown = routed, routed["name"], ""
    if routed.get("status") != "starting":
        return routed
    for latest in applications.watch(name, _PATIENCE):
        cause = latest.get("cause") or ""
        if latest.get("status") == "starting" and cause not in ("", shown):
            terminal.echo(f"Application {name}: {cause}", err=True)
            shown = cause
    return latest


def _traffic(application: application_shapes.Application) -> str:
    parts = [f"revision {share['revision']} ({share['model']}) receives {share['percent']} %" for share in application.get("traffic", [])]
    return ", ".join(parts)
