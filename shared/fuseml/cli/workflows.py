"""`fuseml workflow`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import completion, lint, options, output, portability, runs, session, terminal, workflow_import
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

app = typer.Typer(help="Workflows: documents of steps and of triggers.", **options.GROUP)
app.command(epilog=options.examples("fuseml workflow lint mlflow-e2e.yaml", "fuseml workflow lint *.yaml --strict -o json"))(lint.lint)
app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml workflow check mlflow-e2e --against registry.yaml",
        "fuseml workflow check mlflow-e2e --against https://fuseml.example.com",
    ),
)(portability.check)

app.command(name="import", epilog=options.examples("fuseml workflow import dvc.yaml --model train > workflow.yaml"))(
    workflow_import.import_
)

File = Annotated[str, typer.Argument(help="Workflow document, YAML or JSON; `-` is standard input.", metavar="FILE", show_default=False)]


def _names(key: str) -> output.Column:
    def read(workflow: Mapping[str, object]) -> object:
        items = workflow.get(key)
        return [item.get("name") for item in items] if isinstance(items, list) else None

    return output.Column(key.title(), read, cut=True, minor=True)


def _schedule(workflow: Mapping[str, object]) -> str:
    on = workflow.get("on")
    return str(on.get("schedule") or "") if isinstance(on, Mapping) else ""


def _next_time(client: Client, workflow: shapes.Workflow) -> str:
    """The next scheduled time; a workflow with codeset inputs also needs an assignment."""
    from fuseml.domain.workflows import schedule

    next_time = schedule.following(schedule.parse(_schedule(workflow)), datetime.datetime.now(datetime.UTC))
    on_codesets = any(item.get("type") == "codeset" for item in workflow.get("inputs", []))
    is_assigned = not on_codesets or any(item.get("codesets") for item in client.workflows.assignments(workflow["name"]))
    return output.minute(next_time.isoformat()) + ("" if is_assigned else ", once it is assigned to a codeset")


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
    output.column("Patterns"),
    output.Column("Status", _availability, states=True),
)
_INPUTS = (output.column("Name"), output.column("Type"), output.column("Default", cut=True), output.column("Description", cut=True))
_STEPS = (output.column("Name"), output.column("Image"))
_REVISIONS = (
    output.column("Revision"),
    output.Column("Age", lambda item: output.age(item.get("created"))),
    output.Column("Created", lambda item: output.minute(item.get("created"))),
)


@app.command(epilog=options.examples("fuseml workflow create mlflow-e2e.yaml"))
def create(context: typer.Context, file: File, format: options.Output = output.Format.TABLE) -> None:
    """Create a workflow from its document."""
    document = session.read(file)
    with session.naming_source(file):
        workflow = session.connect(context).workflows.create(document)
    output.done(format, workflow, f'Workflow "{workflow["name"]}" successfully created.')


@app.command(epilog=options.examples("fuseml workflow update mlflow-e2e.yaml"))
def update(context: typer.Context, file: File, format: options.Output = output.Format.TABLE) -> None:
    """Create a new revision of a workflow from its document.

    The document names the workflow. Existing runs keep their revision.
    """
    document = session.read(file)
    with session.naming_source(file):
        workflow = session.connect(context).workflows.update(_name_in(document), document)
    output.done(format, workflow, f'Workflow "{workflow["name"]}" successfully updated (revision {workflow.get("revision", "?")}).')


def _name_in(text: str) -> str:
    from fuseml.domain.documents import document

    data = document.parse(text).data
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name:
        raise errors.InvalidError("the document has no name; add `name: WORKFLOW`")
    return name


@app.command(
    cls=options.Named, epilog=options.examples("fuseml workflow get mlflow-e2e", "fuseml workflow get mlflow-e2e --revision 1 -o yaml")
)
def get(
    context: typer.Context,
    name: options.Name,
    revision: Annotated[
        int | None, options.option("--revision", metavar="NUMBER", min=1, help="This revision; the current one by default.")
    ] = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show one workflow, its steps and its latest runs."""
    client = session.connect(context)
    workflow = client.workflows.get(name, revision)
    next_time = _next_time(client, workflow) if _schedule(workflow) and format is output.Format.TABLE else ""
    output.record(
        format,
        workflow,
        (
            *_COLUMNS[:3],
            output.Column("Age", lambda item: output.age(item.get("created"))),
            output.Column("Schedule", _schedule),
            output.Column("Next time", lambda _: next_time),
        ),
        ("Inputs", "inputs", _INPUTS),
        ("Outputs", "outputs", _INPUTS),
        ("Steps", "steps", _STEPS),
    )
    if format is output.Format.TABLE:
        latest = list(client.runs.list(workflow=name, limit=5))
        if latest:
            terminal.echo("\nLatest runs:")
            output.table(latest, runs.COLUMNS, indent=2)


@app.command(name="list", epilog=options.examples("fuseml workflow list"))
def list_(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only the workflow of this name.", autocompletion=completion.workflows)] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List workflows."""
    workflows = session.connect(context).workflows.list(name)
    output.listing(format, workflows, _COLUMNS, "There is no matching workflow; `fuseml workflow create FILE` creates one.")


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow revisions mlflow-e2e"))
def revisions(context: typer.Context, name: options.Name, format: options.Output = output.Format.TABLE) -> None:
    """List the revisions of a workflow, newest first."""
    output.listing(
        format, session.connect(context).workflows.revisions(name), _REVISIONS, "There is no revision; see `fuseml workflow list`."
    )


@app.command(epilog=options.examples("fuseml workflow diff mlflow-e2e", "fuseml workflow diff mlflow-e2e 1 3"))
def diff(
    context: typer.Context,
    name: options.Name,
    before: Annotated[
        int | None, typer.Argument(metavar="FROM", show_default=False, help="A revision; the previous one by default.")
    ] = None,
    after: Annotated[int | None, typer.Argument(metavar="TO", show_default=False, help="A later revision; the newest by default.")] = None,
) -> None:
    """Show the difference of two revisions.

    By default, the last change: the previous and the current revision.
    """
    terminal.echo(session.connect(context).workflows.diff(name, before, after), nl=False)


@app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml workflow run mlflow-e2e -p demo -c diabetes --wait",
        "fuseml workflow run mlflow-e2e -p demo -c diabetes --until trainer",
    ),
)
def run(
    context: typer.Context,
    name: options.Name,
    codeset_project: options.CodesetProject = "",
    codeset_name: options.CodesetName = "",
    input: options.Input = None,
    commit: options.Commit = "",
    until: options.Until = "",
    only: options.Only = "",
    no_cache: options.NoCache = False,
    wait: options.Wait = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Start a run now, with its own inputs.

    The workflow does not need to be assigned to the codeset.
    """
    from fuseml.cli import progress

    request: shapes.RunRequest = {
        "project": codeset_project,
        "commit": commit,
        "inputs": options.named(input, "input"),
        "until": until,
        "only": only,
        "no_cache": no_cache,
    }
    client = session.connect(context)
    codeset = codeset_name or runs.current_codeset(context, client, name, codeset_project)
    progress.show_run_of_request(client, client.runs.start(name, {**request, "codeset": codeset}), format, wait=wait)


@app.command(cls=options.Named, epilog=options.examples("fuseml workflow delete mlflow-e2e", "fuseml workflow delete mlflow-e2e --force"))
def delete(
    context: typer.Context,
    name: options.Name,
    force: Annotated[bool, typer.Option("--force", help="Cancel active runs first.")] = False,
) -> None:
    """Delete a workflow and its assignments; its runs stay.

    Unfinished runs are cancelled with --force and prevent the deletion without.
    """
    client = session.connect(context)
    cancelled = client.runs.active(workflow=name) if force else []
    client.workflows.delete(name, force=force)
    terminal.echo(f"Workflow {name} successfully deleted.{runs.fate(cancelled, continues=False)}")


@app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml workflow assign mlflow-e2e -p demo -c diabetes", "fuseml workflow assign mlflow-e2e -p demo -c diabetes --wait"
    ),
)
def assign(
    context: typer.Context,
    name: options.Name,
    codeset_project: options.CodesetProject,
    codeset_name: options.CodesetName,
    wait: options.Wait = False,
) -> None:
    """Assign a workflow to a codeset: pushes start runs.

    The first run starts at once, and is printed, except of workflows with a schedule or with triggers by artifacts.
    """
    from fuseml.cli import push_results

    push_results.assign(session.connect(context), name, codeset_project, codeset_name, wait=wait)


@app.command(
    cls=options.Named,
    epilog=options.examples(
        "fuseml workflow unassign mlflow-e2e -p demo -c diabetes", "fuseml workflow unassign mlflow-e2e -p demo -c diabetes --cancel"
    ),
)
def unassign(
    context: typer.Context,
    name: options.Name,
    codeset_project: options.CodesetProject,
    codeset_name: options.CodesetName,
    cancel: Annotated[bool, typer.Option("--cancel", help="Also cancel the unfinished runs that the assignment has started.")] = False,
) -> None:
    """Remove an assignment: pushes no longer start runs.

    Unfinished runs continue unless they are cancelled.
    """
    client = session.connect(context)
    unfinished = client.runs.active(workflow=name, project=codeset_project, codeset=codeset_name)
    client.workflows.unassign(name, codeset_project, codeset_name, cancel=cancel)
    fate = runs.fate(unfinished, continues=not cancel)
    terminal.echo(f'Workflow "{name}" unassigned from codeset "{codeset_project}/{codeset_name}".{fate}')


@app.command(epilog=options.examples("fuseml workflow list-assignments"))
def list_assignments(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only of this workflow.", autocompletion=completion.workflows)] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """List the assignments of workflows to codesets."""
    assignments = session.connect(context).workflows.assignments(name)
    output.listing(format, assignments, _ASSIGNMENTS, "There is no assignment; `fuseml workflow assign` creates one.")


@app.command(epilog=options.examples("fuseml workflow list-runs -n mlflow-e2e -p demo", "fuseml workflow list-runs --status failed"))
def list_runs(
    context: typer.Context,
    name: Annotated[str, options.option("--name", "-n", help="Only of this workflow.", autocompletion=completion.workflows)] = "",
    codeset_project: options.CodesetProject = "",
    codeset_name: options.CodesetName = "",
    status: Annotated[str, options.option("--status", "-s", help="Only runs in this state.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runs, newest first; `fuseml run list` is the same."""
    filters: shapes.RunFilters = {"workflow": name, "project": codeset_project, "codeset": codeset_name, "state": status.lower()}
    runs.show_list(context, format, limit, filters=filters)
