"""`fuseml why`: the causes and outcomes of a run, a commit or an event, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import named_run, options, output, session

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import event_shapes
    from fuseml.client.api import Client


def why(
    context: typer.Context,
    of: Annotated[
        str | None,
        typer.Argument(
            help="A commit (7 digits suffice), a run or an event; the newest run by default.",
            metavar="COMMIT|RUN|EVENT",
            show_default=False,
        ),
    ] = None,
    source: Annotated[str, options.option("--source", help="Source of the event, if its id is ambiguous.")] = "",
    project: options.Project = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Explain why a run started, or why none started.

    Reasons are missing assignments, filters, refused webhooks, dead letters: the server recorded each decision when it was made.
    """
    client = session.connect(context)
    _show(client, named_run.chosen(client, of, project), source, format)


def run_why(
    context: typer.Context,
    run: named_run.OptionalRunName = None,
    project: options.Project = "",
    last: named_run.Last = 1,
    format: options.Output = output.Format.TABLE,
) -> None:
    """Explain why a run started; `fuseml why` is the same."""
    client = session.connect(context)
    _show(client, named_run.chosen(client, run, project, last), "", format)


def _show(client: Client, of: str, source: str, format: output.Format) -> None:
    explanation = client.events.why(of, source)
    if format is not output.Format.TABLE:
        output.dump(format, explanation)
        return
    console = output.console()
    console.print(explanation["answer"])
    for timeline in explanation["stories"]:
        console.print()
        console.print(_tree(timeline))


def _tree(timeline: event_shapes.Timeline) -> Tree:
    from rich.tree import Tree

    first, *rest = timeline["chain"]
    root = branch = Tree(_link(first), guide_style="dim")
    for link in rest:
        branch = branch.add(_link(link))
    for outcome in timeline["outcomes"]:
        branch.add(_outcome(outcome))
    return root


def _link(link: event_shapes.Link) -> Text:
    from rich.text import Text

    label = Text(link["text"])
    event, state = link.get("event"), link.get("state")
    if state:
        label.append(f"  {state}", style=output.STATE_STYLES.get(state, ""))
    reference = ", ".join(part for part in (f"event {event}" if event else "", _ago(link.get("time"))) if part)
    label.append(f"  ({reference})" if reference else "", style="dim")
    return label


def _ago(time: str | None) -> str:
    age = output.age(time)
    return f"{age} ago" if age else ""


def _outcome(outcome: event_shapes.Outcome) -> Text:
    """`→ run state: reason`, or `✗ workflow: reason` for a workflow that did not start."""
    from rich.text import Text

    state, run, workflow = outcome["state"], outcome.get("run"), outcome.get("workflow")
    # A run's name contains the name of its workflow.
    label = Text(f"→ {run} " if run else "→ " if state == "applied" else f"✗ {workflow}: " if workflow and state == "nothing" else "✗ ")
    if run or state != "nothing":
        label.append(state, style=output.STATE_STYLES.get(state, ""))
        label.append(": " if outcome["reason"] else "")
    elif not workflow:
        label.append("nothing started: ")
    label.append(outcome["reason"])
    return label
