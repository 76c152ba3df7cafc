"""`fuseml why`: the story of a run, a commit or an event, as a tree from its first cause to what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuseml.cli import options, output, session

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import event_shapes


def why(
    context: typer.Context,
    of: Annotated[
        str, typer.Argument(help="A commit (7 digits will do), a run or an event.", metavar="COMMIT|RUN|EVENT", show_default=False)
    ],
    source: Annotated[str, options.option("--source", help="Of the event, where its id is not unique.")] = "",
    format: options.Output = output.Format.TABLE,
) -> None:
    """Tell what started a run, or why nothing started.

    No assignment, a filter, a refused webhook, a dead letter: what was decided was written down then.
    """
    found = session.connect(context).events.why(of, source)
    if format is not output.Format.TABLE:
        output.dump(format, found)
        return
    screen = output.console()
    screen.print(found["answer"])
    for story in found["stories"]:
        screen.print()
        screen.print(_tree(story))


def _tree(story: event_shapes.Timeline) -> Tree:
    from rich.tree import Tree

    first, *rest = story["chain"]
    root = branch = Tree(_link(first), guide_style="dim")
    for link in rest:
        branch = branch.add(_link(link))
    for outcome in story["outcomes"]:
        branch.add(_outcome(outcome))
    return root


def _link(link: event_shapes.Link) -> Text:
    from rich.text import Text

    label = Text(link["text"])
    event, state = link.get("event"), link.get("state")
    if state:
        label.append(f"  {state}", style=output.STATE_STYLES.get(state, ""))
    told = ", ".join(part for part in (f"event {event}" if event else "", _ago(link.get("time"))) if part)
    label.append(f"  ({told})" if told else "", style="dim")
    return label


def _ago(time: str | None) -> str:
    age = output.age(time)
    return f"{age} ago" if age else ""


def _outcome(outcome: event_shapes.Outcome) -> Text:
    """`→ run state: reason`, or who did not start: reason."""
    from rich.text import Text

    state, run, workflow = outcome["state"], outcome.get("run"), outcome.get("workflow")
    # A run is named after its workflow.
    label = Text(f"→ {run} " if run else f"✗ {workflow}: " if workflow and state == "nothing" else "✗ ")
    if run or state != "nothing":
        label.append(state, style=output.STATE_STYLES.get(state, ""))
        label.append(": " if outcome["reason"] else "")
    elif not workflow:
        label.append("nothing started: ")
    label.append(outcome["reason"])
    return label
