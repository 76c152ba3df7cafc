"""Progress of runs: live trees of runs and steps in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import collections
import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from fuseml.cli import advice, approvals, matrices, output, step_logs, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from fuseml.client import shapes
    from fuseml.client.api import Client


RUNS_APPEAR = 15.0
"""Seconds until a request has become a run."""

# The width of a tree's guides for each level, in columns.
_GUIDE = 4
# The columns that a cause has on the narrowest terminal.
_LEAST = 16


def await_runs(query: Callable[[], Iterable[shapes.Run]], message: str, patience: float = RUNS_APPEAR) -> list[shapes.Run]:
    """Wait until `query` returns runs. Raises NotFoundError(`message`) after `patience` seconds without any."""
    deadline = time.monotonic() + patience
    while True:
        runs = list(query())
        if runs:
            return runs
        if time.monotonic() > deadline:
            raise errors.NotFoundError(message)
        time.sleep(0.3)


def show_run_of_request(client: Client, request: str, format: output.Format, *, wait: bool) -> None:
    """Print the run of a request; with `wait` follow it, and exit with 1 unless it succeeds."""
    run = client.runs.requested(request)
    if format is output.Format.TABLE:
        terminal.echo(sentence(run))
    if wait:
        to_end(client, [run], format)
    elif format is not output.Format.TABLE:
        output.dump(format, run)


def sentence(run: shapes.Run) -> str:
    """The name, the workflow and the state of a run that a command has started."""
    return f"Run {run['name']} of {run['workflow']} is {run['state']}."


def to_end(client: Client, runs: Iterable[shapes.Run], format: output.Format = output.Format.TABLE) -> None:
    """Follow the runs and the runs that they cause; for programs print each finished run. Exits with 1 unless all succeed.

    The ends of the logs of failed steps are printed, for programs on standard error.
    """
    snapshots = client.runs.follow(run["name"] for run in runs)
    if format is output.Format.TABLE:
        finished = show(snapshots)
    else:
        finished = _wait(snapshots)
        for run in finished:
            output.dump(format, run)
    exit_by_state(client, finished, format)


def exit_by_state(client: Client, finished: Iterable[shapes.Run], format: output.Format = output.Format.TABLE) -> None:
    """Print the ends of the logs of failed steps, and exit with 1 unless all runs have succeeded."""
    unsuccessful = [run for run in finished if run["state"] != "succeeded"]
    for run in unsuccessful:
        step_logs.show_ends(client, run, err=format is not output.Format.TABLE)
    if unsuccessful:
        raise typer.Exit(1)


def _wait(snapshots: Iterable[Sequence[shapes.Run]]) -> Sequence[shapes.Run]:
    """The last snapshot. Pending approvals are printed on standard error: they are why a script hangs."""
    printed: list[str] = []
    last: Sequence[shapes.Run] = ()
    for last in snapshots:
        questions = [f"{run['name']} {line}" for run in last for line in approvals.advice(run)]
        for line in questions:
            if line not in printed:
                terminal.echo(line, err=True)
        printed = questions
    return last


def follow(client: Client, name: str) -> shapes.Run:
    """Show the run until it has finished; the finished run."""
    return show([run] for run in client.runs.watch(name))[0]


def show(snapshots: Iterable[Sequence[shapes.Run]], indent: int = 0) -> Sequence[shapes.Run]:
    """Show snapshots of runs on standard output; the last snapshot. `snapshots` must not be empty."""
    return _live(snapshots, indent) if output.console().is_terminal else _lines(snapshots, indent)


def _live(snapshots: Iterable[Sequence[shapes.Run]], indent: int) -> Sequence[shapes.Run]:
    from rich.console import Group
    from rich.live import Live
    from rich.padding import Padding
    from rich.text import Text

    last: Sequence[shapes.Run] = ()

    def picture() -> Padding:
        lines = [Text(f"{run['name']} {line}", style=output.STATE_STYLES["waiting"]) for run in last for line in advice.lines(run)]
        return Padding(Group(*trees(last, output.console().width - indent), *lines), (0, 0, 0, indent))

    # The live picture counts durations of running steps up between two snapshots.
    with Live(console=output.console(), refresh_per_second=8, get_renderable=picture) as live:
        for snapshot in snapshots:
            last = snapshot
            live.refresh()
    return last


def trees(runs: Sequence[shapes.Run], room: int | None = None) -> Iterator[Tree]:
    """A tree for each run: its steps, then the runs that it caused, with state, duration and cause. `room` is the width of a line."""
    from rich.tree import Tree

    by_cause = collections.defaultdict(list)
    names = {run["name"] for run in runs}
    for run in runs:
        by_cause[run.get("caused_by") if run.get("caused_by") in names else None].append(run)

    def width(run: shapes.Run, depth: int) -> int:
        # Names are padded by their depth, so that the states are aligned.
        below = [len(step["name"]) + _GUIDE * (depth + 1) for step in run.get("steps", [])]
        return max(len(run["name"]) + _GUIDE * depth, *below, *(width(other, depth + 1) for other in by_cause[run["name"]]), 0)

    widest = max((width(run, 0) for run in by_cause[None]), default=0)

    def label(item: shapes.Run | shapes.StepRun, depth: int, note: str = "") -> Text:
        before = _GUIDE * depth
        return _label(item, item["name"].ljust(widest - before), note, room - before if room else None)

    def grow(tree: Tree, run: shapes.Run, depth: int) -> Tree:
        for step in run.get("steps", []):
            tree.add(label(step, depth + 1))
        for other in by_cause[run["name"]]:
            grow(tree.add(label(other, depth + 1, _subject(other))), other, depth + 1)
        return tree

    for run in by_cause[None]:
        yield grow(Tree(label(run, 0, _subject(run)), guide_style="dim"), run, 0)


def _subject(run: shapes.Run) -> str:
    """The subject of a run: its codeset and version, or name and version of the artifact that triggered it."""
    artifact = run.get("trigger", {}).get("artifact")
    if artifact:
        return artifact.partition("://")[2].partition("/")[2]
    subject = "/".join(part for part in (run.get("project"), run.get("codeset")) if part)
    return f"{subject} {(run.get('commit') or '')[:8]}".strip()


def _label(item: shapes.Run | shapes.StepRun, name: str, note: str, room: int | None) -> Text:
    from rich.text import Text

    from fuseml.domain.runs.causes import shorten

    state = item.get("state", "")
    attempts = item.get("attempts", 0)
    label = Text(overflow="ellipsis", no_wrap=True)
    label.append(f"{name}  ")
    label.append(f"{state:<9}", style=output.STATE_STYLES.get(state, ""))
    label.append(f"  {output.spent(item):>6}")
    attempt = f"attempt {attempts}" if isinstance(attempts, int) and attempts > 1 else ""
    for text in (matrices.values(item), attempt, _reuse(item), note):
        label.append(f"  {text}" if text else "", style="dim")
    if reason := approvals.reason(item):
        left = max(_LEAST, room - len(label) - 2) if room else len(reason)
        label.append(f"  {shorten(reason, left)}", style="red" if item.get("cause") and state != "queued" else "dim")
    return label


def _lines(snapshots: Iterable[Sequence[shapes.Run]], indent: int) -> Sequence[shapes.Run]:
    printed: dict[str, str] = {}
    last: Sequence[shapes.Run] = ()
    for last in snapshots:
        names = {run["name"] for run in last}
        for run in last:
            if run.get("caused_by") in names and run["name"] not in printed:
                printed[run["name"]] = ""
                _print(run["name"], f"started by {run.get('trigger', {}).get('artifact')} of {run['caused_by']}", indent)
            for subject, line in _changes(run, printed):
                _print(subject, line, indent)
    return last


def _print(subject: str, line: str, indent: int) -> None:
    time = datetime.datetime.now().astimezone().strftime("%H:%M:%S")
    terminal.echo(f"{' ' * indent}{time}  {subject}  {line}")


def _changes(run: shapes.Run, printed: dict[str, str]) -> Iterator[tuple[str, str]]:
    items: list[tuple[str, shapes.Run | shapes.StepRun]] = [(f"{run['name']} {step['name']}", step) for step in run.get("steps", [])]
    # The run's start comes before the changes of its steps, its end after them.
    items.insert(len(items) if run.get("finished") else 0, (run["name"], run))
    for subject, item in items:
        spent = output.spent(item) if item.get("finished") else ""
        line = "  ".join(part for part in (item.get("state", ""), spent, approvals.reason(item)) if part)
        if line not in ("queued", printed.get(subject)):
            # The values of a combination and the reason why a step is reused or executed appear once.
            once = () if subject in printed else (matrices.values(item), _reuse(item))
            printed[subject] = line
            yield subject, "  ".join(filter(None, (line, *once)))
    commands, question = list(advice.lines(run)), f"{run['name']}?"
    if "; ".join(commands) != printed.get(question, ""):
        printed[question] = "; ".join(commands)
        yield from ((run["name"], line) for line in commands)


def _reuse(item: shapes.Run | shapes.StepRun) -> str:
    """The run that a step was reused from, or the reason why a step with a cache was executed."""
    origin, reason = item.get("reused_from"), item.get("not_reused")
    return f"reused from {origin}" if origin else f"not reused: {reason}" if reason else ""
