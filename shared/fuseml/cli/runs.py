"""`fuseml run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from fuseml.cli import options, output, session

app = typer.Typer(help="Runs: executions of workflows, their steps and logs.", **options.GROUP)

RunName = Annotated[str, typer.Argument(help="The run, as `fuseml run list` names it.", metavar="RUN", show_default=False)]


def bound_to(binding: Mapping[str, object]) -> str:
    """`extension/service`, and the credentials where there are any."""
    return "/".join(str(binding[key]) for key in ("extension_id", "service_id", "credentials_id") if binding.get(key))


def _trigger(run: Mapping[str, object]) -> object:
    trigger = run.get("trigger")
    return trigger.get("kind") if isinstance(trigger, dict) else None


COLUMNS = (
    output.column("Name"),
    output.Column("Codeset", lambda run: "/".join(str(run[key]) for key in ("project", "codeset") if run.get(key))),
    output.Column("Version", lambda run: str(run.get("commit") or "")[:8]),
    output.Column("Started", lambda run: output.age(run.get("started") or run.get("created"))),
    output.Column("Duration", output.spent),
    output.column("State", states=True),
    output.column("Cause", cut=True),
)
_RUN = (
    output.column("Name"),
    output.column("Workflow"),
    output.column("Revision"),
    output.column("Project"),
    output.column("Codeset"),
    output.column("Version", "commit"),
    output.Column("Trigger", _trigger),
    output.Column("Age", lambda run: output.age(run.get("created"))),
    output.Column("Duration", output.spent),
    output.column("State", states=True),
    output.column("Cause"),
    output.column("Inputs"),
    output.column("Outputs"),
)
_STEPS = (
    output.column("Name"),
    output.column("State", states=True),
    output.Column("Duration", output.spent),
    output.Column("Attempts", lambda step: step.get("attempts") if step.get("attempts") not in (0, 1) else None),
    output.column("Cause", cut=True),
    output.column("Outputs", cut=True),
)
_BINDINGS = (
    output.column("Step"),
    output.column("Selector", "name"),
    output.Column("Bound to", bound_to),
    output.column("URL", "url"),
)


@app.command(name="list", epilog=options.examples("fuseml run list -p demo", "fuseml run list --state failed --limit 5"))
def list_(
    context: typer.Context,
    workflow: Annotated[str, options.option("--workflow", "-w", help="Only of this workflow.")] = "",
    project: options.Project = "",
    codeset: Annotated[str, options.option("--codeset", "-c", help="Only of this codeset.")] = "",
    commit: Annotated[str, options.option("--commit", help="Only of this codeset version.")] = "",
    state: Annotated[str, options.option("--state", "-s", help="Only in this state.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runs, newest first."""
    show_list(context, format, workflow=workflow, project=project, codeset=codeset, commit=commit, state=state, limit=limit)


def show_list(
    context: typer.Context,
    format: output.Format,
    *,
    workflow: str = "",
    project: str = "",
    codeset: str = "",
    commit: str = "",
    state: str = "",
    limit: int | None = None,
) -> None:
    """The list behind `run list` and `workflow list-runs`."""
    found = session.connect(context).runs.list(workflow=workflow, project=project, codeset=codeset, commit=commit, state=state, limit=limit)
    output.listing(format, found, COLUMNS, "There is no such run; assigning a workflow or pushing code starts one.")


@app.command(epilog=options.examples("fuseml run get mlflow-e2e-1", "fuseml run get mlflow-e2e-1 -o json"))
def get(context: typer.Context, run: RunName, format: options.Output = output.Format.TABLE) -> None:
    """Show one run: its steps, its bindings, its outputs."""
    found = session.connect(context).runs.get(run)
    output.record(format, found, _RUN, ("Steps", "steps", _STEPS), ("Bindings", "bindings", _BINDINGS))


@app.command(epilog=options.examples("fuseml run watch mlflow-e2e-1"))
def watch(context: typer.Context, run: RunName) -> None:
    """Follow a run's steps until it has finished.

    Exit code 1 if it did not succeed.
    """
    from fuseml.cli import watch as watching

    if watching.follow(session.connect(context), run)["state"] != "succeeded":
        raise typer.Exit(1)


@app.command(epilog=options.examples("fuseml run logs mlflow-e2e-1", "fuseml run logs mlflow-e2e-1 trainer -f"))
def logs(
    context: typer.Context,
    run: RunName,
    step: Annotated[str | None, typer.Argument(help="Only this step's log.", metavar="STEP", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the step, or the run, has ended.")] = False,
) -> None:
    """Print the logs of a run's steps, in their order."""
    client = session.connect(context)
    steps = [step] if step else [item["name"] for item in client.runs.get(run).get("steps", [])]
    for name in steps:
        if not step:
            typer.echo(f"==> {name} <==", err=True)
        for text in client.runs.text(run, name, follow=follow):
            typer.echo(text, nl=False)


@app.command(epilog=options.examples("fuseml run cancel mlflow-e2e-1"))
def cancel(context: typer.Context, run: RunName, format: options.Output = output.Format.TABLE) -> None:
    """Stop a run and its steps."""
    output.done(format, session.connect(context).runs.cancel(run), f"Run {run} is being cancelled.")
