"""Waiting for runs and following them: a live tree of the steps in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import collections
import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from fuseml.cli import output
from fuseml.domain import errors

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import shapes
    from fuseml.client.api import Client


# What was asked for is a run before this many seconds have passed.
_RUNS_APPEAR = 15.0


def appear(look: Callable[[], Iterable[shapes.Run]], otherwise: str) -> list[shapes.Run]:
    """The runs that `look` finds, waited for. Raises NotFoundError(`otherwise`) when none comes."""
    deadline = time.monotonic() + _RUNS_APPEAR
    while True:
        found = list(look())
        if found:
            return found
        if time.monotonic() > deadline:
            raise errors.NotFoundError(otherwise)
        time.sleep(0.3)


def requested(client: Client, request: str, format: output.Format, *, wait: bool) -> None:
    """Tell which run a request has become; with `wait` follow it, and exit with 1 if it does not succeed."""
    [run] = appear(
        lambda: client.runs.list(request=request), "the request was taken, but no run has come of it yet; see `fuseml run list` later"
    )
    if format is output.Format.TABLE:
        typer.echo(f"Run {run['name']} of {run['workflow']} is {run['state']}.")
    if wait:
        to_end(client, [run], format)
    elif format is not output.Format.TABLE:
        output.dump(format, run)


def to_end(client: Client, found: Iterable[shapes.Run], format: output.Format = output.Format.TABLE) -> None:
    """Follow the runs, or for programs print each as it ended. Exits with 1 unless all of them succeed."""
    if format is output.Format.TABLE:
        finished = [follow(client, run["name"]) for run in found]
    else:
        finished = [collections.deque(client.runs.watch(run["name"]), maxlen=1).pop() for run in found]
        for run in finished:
            output.dump(format, run)
    if any(run["state"] != "succeeded" for run in finished):
        raise typer.Exit(1)


def follow(client: Client, name: str) -> shapes.Run:
    """Show the run until it has finished; the run as it ended."""
    return show(client.runs.watch(name))


def show(looks: Iterable[shapes.Run], indent: int = 0) -> shapes.Run:
    """Show successive looks at a run on standard output; the last one. `looks` must not be empty."""
    return _live(looks, indent) if output.console().is_terminal else _lines(looks, indent)


def _live(looks: Iterable[shapes.Run], indent: int) -> shapes.Run:
    from rich.live import Live
    from rich.padding import Padding

    last: shapes.Run = {}

    def picture() -> Padding:
        return Padding(tree(last), (0, 0, 0, indent))

    # The durations of running steps count up between two looks.
    with Live(console=output.console(), refresh_per_second=8, get_renderable=picture) as live:
        for look in looks:
            last = look
            live.refresh()
    return last


def tree(run: shapes.Run) -> Tree:
    """The run and its steps, with state, duration and cause."""
    from rich.tree import Tree

    subject = "/".join(part for part in (run.get("project"), run.get("codeset")) if part)
    version = (run.get("commit") or "")[:8]
    name, steps = run.get("name", ""), run.get("steps", [])
    # The guides of the tree take four characters; with them, the states stand below each other.
    width = max(len(name), 4 + max((len(step["name"]) for step in steps), default=0))
    root = Tree(_label(run, f"{name:<{width}}", f"{subject} {version}".strip()), guide_style="dim")
    for step in steps:
        root.add(_label(step, f"{step['name']:<{width - 4}}", ""))
    return root


def _label(item: shapes.Run | shapes.StepRun, name: str, remark: str) -> Text:
    from rich.text import Text

    state = item.get("state", "")
    attempts = item.get("attempts", 0)
    label = Text(overflow="ellipsis", no_wrap=True)
    label.append(f"{name}  ")
    label.append(f"{state:<9}", style=output.STATE_STYLES.get(state, ""))
    label.append(f"  {output.spent(item):>6}")
    for text in (f"attempt {attempts}" if isinstance(attempts, int) and attempts > 1 else "", _reuse(item), remark):
        label.append(f"  {text}" if text else "", style="dim")
    if reason := output.reason(item):
        label.append(f"  {reason}", style="red" if item.get("cause") else "dim")
    return label


def _lines(looks: Iterable[shapes.Run], indent: int) -> shapes.Run:
    told: dict[str, str] = {}
    last: shapes.Run = {}
    for last in looks:
        for subject, line in _changes(last, told):
            time = datetime.datetime.now().astimezone().strftime("%H:%M:%S")
            typer.echo(f"{' ' * indent}{time}  {subject}  {line}")
    return last


def _changes(run: shapes.Run, told: dict[str, str]) -> Iterator[tuple[str, str]]:
    items: list[tuple[str, shapes.Run | shapes.StepRun]] = [(f"{run['name']} {step['name']}", step) for step in run.get("steps", [])]
    # The run's own start comes before its steps' news, its end after them.
    items.insert(len(items) if run.get("finished") else 0, (run["name"], run))
    for subject, item in items:
        spent = output.spent(item) if item.get("finished") else ""
        line = "  ".join(part for part in (item.get("state", ""), spent, output.reason(item)) if part)
        if line not in ("queued", told.get(subject)):
            # Why a step is executed, or not, is told once.
            reuse = "" if subject in told else _reuse(item)
            told[subject] = line
            yield subject, f"{line}  {reuse}".rstrip()


def _reuse(item: shapes.Run | shapes.StepRun) -> str:
    """The run that a step was reused from, or why one that uses the cache was not."""
    origin, reason = item.get("reused_from"), item.get("not_reused")
    return f"reused from {origin}" if origin else f"not reused: {reason}" if reason else ""
