"""`fuseml run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from fuseml.cli import advice, approvals, bindings, matrices, options, output, plans, session, terminal

if TYPE_CHECKING:
    from fuseml.client import shapes

app = typer.Typer(help="Runs: executions of workflows, their steps and logs.", **options.GROUP)

RunName = Annotated[str, typer.Argument(help="Name of the run.", metavar="RUN", show_default=False)]


def _trigger(run: Mapping[str, object]) -> object:
    trigger = run.get("trigger")
    if not isinstance(trigger, dict):
        return None
    if trigger.get("due"):
        return f"schedule, {output.minute(trigger['due'])}"
    if trigger.get("artifact"):
        return f"{trigger['artifact']}, of {run['caused_by']}" if run.get("caused_by") else trigger["artifact"]
    if trigger.get("extension"):
        return f"extension {trigger['extension']}"
    return trigger.get("kind")


def _ref(run: options.Item) -> str:
    """The name of a branch; other refs in full."""
    return str(run.get("ref") or "").removeprefix("refs/heads/")


COLUMNS = (
    output.column("Name"),
    output.Column("Codeset", lambda run: "/".join(str(run[key]) for key in ("project", "codeset") if run.get(key))),
    output.Column("Ref", _ref, cut=True),
    output.Column("Version", lambda run: str(run.get("commit") or "")[:8]),
    output.Column("Started", lambda run: output.age(run.get("started") or run.get("created"))),
    output.Column("Duration", output.spent),
    output.column("State", states=True),
    output.Column("Cause", approvals.reason, cut=True),
)
_RUN = (
    output.column("Name"),
    output.column("Workflow"),
    output.column("Revision"),
    output.column("Project"),
    output.column("Codeset"),
    output.Column("Ref", _ref),
    output.column("Version", "commit"),
    output.Column("Trigger", _trigger),
    output.Column("Age", lambda run: output.age(run.get("created"))),
    output.Column("Duration", output.spent),
    output.column("State", states=True),
    output.Column("Cause", approvals.reason),
    output.column("Inputs"),
    output.column("Outputs"),
)
_STEPS = (
    output.column("Name"),
    output.Column("Values", matrices.values, cut=True),
    output.column("State", states=True),
    output.Column("Duration", output.spent),
    output.Column("Attempts", lambda step: step.get("attempts") if step.get("attempts") not in (0, 1) else None),
    output.column("Cause", cut=True),
    output.Column("Approval", approvals.summary, cut=True),
    output.column("Outputs", cut=True),
    output.column("Reused from", "reused_from"),
    output.column("Not reused because", "not_reused", cut=True),
)

_STATES = "queued, running, waiting (for an approval), succeeded, failed or cancelled"


def fate(unfinished: Sequence[shapes.Run], *, continues: bool) -> str:
    """What becomes of the unfinished runs of a removed record, as a sentence with a leading blank; empty without any."""
    names = ", ".join(run["name"] for run in unfinished)
    if not names:
        return ""
    return (
        f" Unfinished runs continue: {names}; `fuseml run cancel RUN` stops one."
        if continues
        else f" Unfinished runs are cancelled: {names}."
    )


@app.command(
    name="list",
    epilog=options.examples("fuseml run list -p demo", "fuseml run list --state waiting", "fuseml run list --state failed --limit 5"),
)
def list_(
    context: typer.Context,
    workflow: Annotated[str, options.option("--workflow", "-w", help="Only runs of this workflow.")] = "",
    project: options.Project = "",
    codeset: Annotated[str, options.option("--codeset", "-c", help="Only runs of this codeset.")] = "",
    commit: Annotated[str, options.option("--commit", help="Only runs of this codeset version.")] = "",
    state: Annotated[str, options.option("--state", "-s", help=f"Only runs in this state: {_STATES}.")] = "",
    limit: options.Limit = None,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runs, newest first."""
    show_list(context, format, limit, workflow=workflow, project=project, codeset=codeset, commit=commit, state=state)


def show_list(context: typer.Context, format: output.Format, limit: int | None, **filters: Unpack[shapes.RunFilters]) -> None:
    """List runs, for `run list` and `workflow list-runs`."""
    runs = session.connect(context).runs.list(limit=limit, **filters)
    output.listing(format, runs, COLUMNS, "There is no matching run; `fuseml workflow run` and `fuseml push` start runs.")


@app.command(epilog=options.examples("fuseml run get mlflow-e2e-1", "fuseml run get mlflow-e2e-1 -o json"))
def get(context: typer.Context, run: RunName, format: options.Output = output.Format.TABLE) -> None:
    """Show one run: its steps, its bindings, its outputs."""
    item = session.connect(context).runs.get(run)
    output.record(format, item, _RUN, ("Steps", "steps", _STEPS), ("Bindings", "bindings", bindings.COLUMNS))
    if format is output.Format.TABLE:
        matrices.show_results(item)
        for line in advice.lines(item):
            terminal.echo(f"\n{run} {line}")


@app.command(epilog=options.examples("fuseml run watch mlflow-e2e-1"))
def watch(context: typer.Context, run: RunName) -> None:
    """Follow a run's steps until it has finished.

    Waits for approvals, too. Exit code 1 if the run does not succeed.
    """
    from fuseml.cli import progress

    if progress.follow(session.connect(context), run)["state"] != "succeeded":
        raise typer.Exit(1)


@app.command(epilog=options.examples("fuseml run logs mlflow-e2e-1", "fuseml run logs mlflow-e2e-1 trainer -f"))
def logs(
    context: typer.Context,
    run: RunName,
    step: Annotated[str | None, typer.Argument(help="Only the log of this step.", metavar="STEP", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the step, or the run, has ended.")] = False,
) -> None:
    """Print the logs of a run's steps, in order. The name of a step with a matrix stands for all its combinations.

    Colours and carriage returns, which progress bars print, stay; a visible character stands for every other control character.
    """
    client = session.connect(context)
    steps = [item["name"] for item in client.runs.get(run).get("steps", []) if step in (None, item["name"], matrices.name(item))]
    for name in steps or ([step] if step else []):
        if not step or len(steps) > 1:
            terminal.echo(f"==> {name} <==", err=True)
        for text in terminal.log(client.runs.text(run, name, follow=follow)):
            typer.echo(text, nl=False)


@app.command(
    epilog=options.examples(
        "fuseml run plan mlflow-e2e -p demo -c diabetes",
        "fuseml run plan train -p demo -c diabetes -i alpha=0.5 -o yaml",
    )
)
def plan(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(help="Name of the workflow.", metavar="WORKFLOW", show_default=False)],
    project: options.Project = "",
    codeset: options.CodesetName = "",
    input: options.Input = None,
    commit: options.Commit = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the plan of a run, without starting the run.

    Secrets appear by name, never by value.
    """
    request = run_request(project, codeset, input, commit)
    plans.show(format, session.connect(context).workflows.plan(workflow, request))


def run_request(project: str, codeset: str, input: list[str] | None, commit: str) -> shapes.RunRequest:
    """The request of the options of `run plan` and `workflow run`."""
    return {"project": project, "codeset": codeset, "commit": commit, "inputs": options.named(input, "input")}


_DIFFERENCES = (
    output.column("Kind"),
    output.column("Name"),
    output.Column("First", lambda item: item.get("a"), cut=True),
    output.Column("Second", lambda item: item.get("b"), cut=True),
)


@app.command(epilog=options.examples("fuseml run diff mlflow-e2e-1 mlflow-e2e-2", "fuseml run diff mlflow-e2e-1 mlflow-e2e-2 -o json"))
def diff(
    context: typer.Context,
    run: RunName,
    other: Annotated[str, typer.Argument(help="Name of the run to compare with.", metavar="OTHER", show_default=False)],
    all: Annotated[bool, typer.Option("--all", help="Show equal facts, too.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the differences of two runs.

    Code, data, parameters, tools and images, then metrics, outputs and the digests of artifacts. Secrets appear by name, never by value.
    """
    found = session.connect(context).runs.diff(run, other, everything=all)
    if format is not output.Format.TABLE:
        output.dump(format, found)
    elif not found["differences"]:
        terminal.echo(f"{run} and {other} do not differ.", err=True)
    else:
        output.table(found["differences"], _DIFFERENCES)


@app.command(
    epilog=options.examples(
        "fuseml run rerun mlflow-e2e-1 --wait",
        "fuseml run rerun mlflow-e2e-1 --locked",
        "fuseml run rerun mlflow-e2e-1 --no-cache",
        "fuseml run rerun mlflow-e2e-1 --until trainer",
        "fuseml run rerun mlflow-e2e-1 --only trainer",
    )
)
def rerun(
    context: typer.Context,
    run: RunName,
    locked: Annotated[bool, typer.Option("--locked", help="Repeat the stored plan exactly.")] = False,
    until: options.Until = "",
    only: options.Only = "",
    no_cache: options.NoCache = False,
    wait: options.Wait = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Repeat a run with the current workflow and tools.

    --locked repeats its plan exactly, tools included. The current credentials apply in both cases. Steps with a cache are reused if
    nothing they depend on has changed, except with --locked, --only and --no-cache.
    """
    from fuseml.cli import progress

    client = session.connect(context)
    progress.show_run_of_request(
        client, client.runs.rerun(run, locked=locked, until=until, only=only, no_cache=no_cache), format, wait=wait
    )


@app.command(
    epilog=options.examples(
        "fuseml run resume mlflow-e2e-1 --wait",
        "fuseml run resume mlflow-e2e-1 --with-commit $(git rev-parse HEAD)",
        "fuseml run resume mlflow-e2e-1 --with-image trainer=fuseml.local/shell:1",
    )
)
def resume(
    context: typer.Context,
    run: RunName,
    with_commit: Annotated[str, options.option("--with-commit", metavar="SHA", help="Another codeset version.")] = "",
    with_image: Annotated[
        list[str] | None, options.option("--with-image", metavar="STEP=IMAGE", help="Another image for a step; may be repeated.")
    ] = None,
    wait: options.Wait = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Continue a failed or cancelled run.

    Succeeded steps are not executed again; --with-commit and --with-image apply to the other steps.
    """
    from fuseml.cli import progress

    client = session.connect(context)
    request = client.runs.resume(run, commit=with_commit, images=options.named(with_image, "step"))
    progress.show_run_of_request(client, request, format, wait=wait)


@app.command(epilog=options.examples("fuseml run cancel mlflow-e2e-1", 'fuseml run cancel mlflow-e2e-1 --reason "wrong data"'))
def cancel(
    context: typer.Context,
    run: RunName,
    reason: Annotated[str, options.option("--reason", "-m", help="Reason; stored as the cause of the run.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Stop a run and its steps.

    A run that waits for an approval or for its concurrency group ends at once.
    """
    output.done(format, session.connect(context).runs.cancel(run, reason=reason), f"Run {run} is being cancelled.")


Step = Annotated[str, options.option("--step", "-s", help="The step; needed if several wait.")]
Comment = Annotated[str, options.option("--comment", "-m", help="Reason; stored with the run.")]


@app.command(
    epilog=options.examples(
        'fuseml run approve mlflow-e2e-1 --comment "better than the last one"', "fuseml run approve mlflow-e2e-1 --step predictor"
    )
)
def approve(
    context: typer.Context, run: RunName, step: Step = "", comment: Comment = "", format: options.Output = output.Format.TABLE
) -> None:
    """Approve a step that waits for an approval.

    The run records the approver, the time and the comment.
    """
    item = session.connect(context).runs.approve(run, step=step, comment=comment)
    output.done(format, item, f"Run {run} is approved and continues.")


@app.command(epilog=options.examples('fuseml run reject mlflow-e2e-1 --comment "worse than the last one"'))
def reject(
    context: typer.Context, run: RunName, step: Step = "", comment: Comment = "", format: options.Output = output.Format.TABLE
) -> None:
    """Reject a step that waits for an approval.

    The step and the run fail; other running steps are stopped.
    """
    item = session.connect(context).runs.reject(run, step=step, comment=comment)
    output.done(format, item, f"Run {run} is rejected and fails.")
