"""`fuseml run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import (
    advice,
    approvals,
    bindings,
    completion,
    matrices,
    named_run,
    options,
    output,
    pages,
    plans,
    run_changes,
    run_comparison,
    run_metrics,
    session,
    step_logs,
    terminal,
    why,
)

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

app = typer.Typer(help="Runs: executions of workflows, their steps and logs.", **options.GROUP)


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


_LONGEST_OUTPUT = 200


def _outputs(step: options.Item) -> object:
    """The outputs of a step, each on a line; a long one, such as a JSON object, is cut."""
    from fuseml.domain.runs.causes import shorten

    outputs = step.get("outputs")
    shown = outputs.items() if isinstance(outputs, Mapping) else ()
    return {name: shorten(output.text(value), _LONGEST_OUTPUT) for name, value in shown}


def _ref(run: options.Item) -> str:
    """The name of a branch; other refs in full."""
    return str(run.get("ref") or "").removeprefix("refs/heads/")


COLUMNS = (
    output.column("Name"),
    output.Column("Codeset", lambda run: "/".join(str(run[key]) for key in ("project", "codeset") if run.get(key))),
    output.Column("Ref", _ref, cut=True, minor=True),
    output.Column("Version", lambda run: str(run.get("commit") or "")[:8], minor=True),
    output.Column("Started", lambda run: output.age(run.get("started") or run.get("created")), minor=True),
    output.Column("Duration", output.spent, minor=True),
    output.column("State", states=True),
    output.Column("Cause", approvals.brief, cut=True),
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
    output.Column("Outputs", _outputs, fold=True),
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
    epilog=options.examples(
        "fuseml run list -p demo",
        "fuseml run list --state failed --limit 5",
        "fuseml run list --metric rmse --metric r2 --sort rmse",
        "fuseml run list --sort duration --reverse",
    ),
)
def list_(
    context: typer.Context,
    workflow: Annotated[str, options.option("--workflow", help="Only runs of this workflow.", autocompletion=completion.workflows)] = "",
    project: options.Project = "",
    codeset: Annotated[str, options.option("--codeset", "-c", help="Only runs of this codeset.", autocompletion=completion.codesets)] = "",
    commit: Annotated[str, options.option("--commit", help="Only runs of this codeset version.")] = "",
    state: Annotated[str, options.option("--state", "-s", help=f"Only runs in this state: {_STATES}.")] = "",
    limit: options.Limit = None,
    metric: Annotated[
        list[str] | None, options.option("--metric", metavar="NAME", help="Also show this metric, NAME or STEP.NAME; may be repeated.")
    ] = None,
    sort: Annotated[
        str, options.option("--sort", metavar="KEY", help=f"Sort by {run_metrics.KEYS} or a metric; by default the newest first.")
    ] = "",
    reverse: Annotated[bool, typer.Option("--reverse", help="The greatest first, with --sort.")] = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """List runs, newest first or by a metric.

    With --limit the newest runs are taken, and then sorted.
    """
    filters: shapes.RunFilters = {"workflow": workflow, "project": project, "codeset": codeset, "commit": commit, "state": state}
    show_list(context, format, limit, metric or (), sort, reverse=reverse, filters=filters)


def show_list(
    context: typer.Context,
    format: output.Format,
    limit: int | None,
    metrics: Sequence[str] = (),
    sort: str = "",
    *,
    reverse: bool = False,
    filters: shapes.RunFilters,
) -> None:
    """List runs, for `run list` and `workflow list-runs`."""
    runs: Iterable[shapes.Run] = session.connect(context).runs.list(limit=limit, **filters)
    columns: tuple[output.Column, ...] = COLUMNS
    if metrics or sort:
        runs = list(runs)
        run_metrics.check(runs, metrics)
    if sort:
        runs = run_metrics.ordered(list(runs), sort, reverse=reverse)
    if metrics:
        columns = (*COLUMNS[:-1], *(run_metrics.column(name) for name in metrics), COLUMNS[-1])
    output.listing(format, runs, columns, "There is no matching run; `fuseml workflow run` and `fuseml push` start runs.")


@app.command(
    epilog=options.examples(
        "fuseml run get", "fuseml run get mlflow-e2e-1 -o json", "fuseml run get --last 2 -p demo", "fuseml run get --open"
    )
)
def get(
    context: typer.Context,
    run: named_run.OptionalRunName = None,
    project: options.Project = "",
    last: named_run.Last = 1,
    open: pages.Open = False,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show one run: its steps, its bindings, its outputs."""
    client = session.connect(context)
    item = client.runs.get(named_run.chosen(client, run, project, last))
    if open:
        pages.show(pages.of_run(client, item))
        return
    output.record(format, item, _RUN, ("Steps", "steps", _STEPS), ("Bindings", "bindings", bindings.COLUMNS))
    if format is output.Format.TABLE:
        matrices.show_results(item)
        for line in advice.lines(item):
            terminal.echo(f"\n{item['name']} {line}")


@app.command(epilog=options.examples("fuseml run watch", "fuseml run watch mlflow-e2e-1"))
def watch(context: typer.Context, run: named_run.OptionalRunName = None, project: options.Project = "", last: named_run.Last = 1) -> None:
    """Follow a run's steps until it has finished.

    Waits for approvals, too. If the run does not succeed, prints the ends of
    the logs of its failed steps; exit code 1.
    """
    from fuseml.cli import progress

    client = session.connect(context)
    progress.exit_by_state(client, [progress.follow(client, named_run.chosen(client, run, project, last))])


@app.command(
    epilog=options.examples(
        "fuseml run logs", "fuseml run logs mlflow-e2e-1 trainer --follow", "fuseml run logs --step trainer", "fuseml run logs --failed"
    )
)
def logs(
    context: typer.Context,
    run: named_run.OptionalRunName = None,
    step: Annotated[str | None, typer.Argument(help="Only the log of this step.", metavar="STEP", show_default=False)] = None,
    step_option: Annotated[str, options.option("--step", metavar="STEP", help="Only the log of this step, where RUN is left out.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Follow the log until the step, or the run, has ended.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only the logs of failed steps; without RUN, of the newest failed run.")] = False,
    project: options.Project = "",
    last: named_run.Last = 1,
) -> None:
    """Print the logs of a run's steps, in order.

    The name of a step with a matrix stands for all its combinations. Colours and carriage returns, which progress bars print, stay; a
    visible character stands for every other control character.
    """
    client = session.connect(context)
    name = named_run.chosen(client, run, project, last, state="failed" if failed else "")
    if not run:
        terminal.echo(f"Logs of run {name}", err=True)
    step_logs.show(client, name, step or step_option or None, follow=follow, failed=failed)


app.command(name="why", epilog=options.examples("fuseml run why", "fuseml run why mlflow-e2e-1"))(why.run_why)


@app.command(
    epilog=options.examples(
        "fuseml run plan mlflow-e2e -p demo -c diabetes",
        "fuseml run plan train -p demo -c diabetes -i alpha=0.5 -o yaml",
    )
)
def plan(
    context: typer.Context,
    workflow: Annotated[
        str, typer.Argument(help="Name of the workflow.", metavar="WORKFLOW", show_default=False, autocompletion=completion.workflows)
    ],
    project: options.Project = "",
    codeset: options.CodesetName = "",
    input: options.Input = None,
    commit: options.Commit = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Show the plan of a run, without starting the run.

    Secrets appear by name, never by value.
    """
    inputs = options.named(input, "input")
    client = session.connect(context)
    codeset = codeset or current_codeset(context, client, workflow, project)
    plans.show(format, client.workflows.plan(workflow, {"project": project, "codeset": codeset, "commit": commit, "inputs": inputs}))


def current_codeset(context: typer.Context, client: Client, workflow: str, project: str) -> str:
    """The current codeset for a workflow that needs one, where the command names none; else empty."""
    codeset = session.settings(context).current_codeset() if project else ""
    if not codeset or options.is_given(context, "codeset") or options.is_given(context, "codeset_name"):
        return ""
    takes_codeset = any(item.get("type") == "codeset" for item in client.workflows.get(workflow).get("inputs", []))
    return codeset if takes_codeset else ""


app.add_typer(run_comparison.app)
app.add_typer(run_changes.app)
