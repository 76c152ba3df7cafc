"""Output of the logs of a run's steps, and of the last lines of those that failed."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from fuseml.cli import matrices, terminal
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client import shapes
    from fuseml.client.api import Client

TAIL = 20
"""The lines that `show_ends` prints of a log."""

# A line may be as long as its log.
_LONGEST_LINE = 2_000


def failed(run: Mapping[str, object]) -> list[str]:
    """The names of the failed steps that have a log: a step that never started has none."""
    steps = run.get("steps")
    listed = steps if isinstance(steps, list) else []
    return [str(step["name"]) for step in listed if step.get("state") == "failed" and step.get("started")]


def show(client: Client, run: str, step: str | None, *, follow: bool, failed: bool) -> None:
    """Print the logs of the run's steps, or of one (a matrix: of its combinations), each under its name unless one was asked for."""
    item = client.runs.get(run)
    steps = [entry["name"] for entry in item.get("steps", []) if step in (None, entry["name"], matrices.name(entry))]
    if failed:
        steps = _failed_of(item, steps, step)
    for name in steps or ([step] if step else []):
        if not step or len(steps) > 1:
            terminal.echo(f"==> {name} <==", err=True)
        for text in terminal.log(client.runs.text(run, name, follow=follow)):
            typer.echo(text, nl=False)


def _failed_of(run: shapes.Run, steps: list[str], step: str | None) -> list[str]:
    found = [name for name in failed(run) if name in steps]
    if not found:
        what = f"step {step}" if step else "no step with a log"
        raise errors.NotFoundError(f"{what} of run {run['name']} has {'not ' if step else ''}failed; the run is {run['state']}")
    return found


def show_ends(client: Client, run: shapes.Run, *, err: bool = False) -> None:
    """Print the last lines of the log of each failed step, with the command that prints the whole log."""
    for name in failed(run):
        try:
            lines, more = _end(terminal.log(client.runs.text(run["name"], name)))
        except errors.FusemlError as error:
            lines, more = [f"(the log cannot be read: {error.message})"], False
        title = f"last {len(lines)} lines of its log" if more else "its log"
        terminal.echo(f"\nStep {name} of run {run['name']} failed; {title}:", err=err)
        for line in lines:
            typer.echo(f"  {line}", err=err)
        if more:
            terminal.echo(f"The whole log: fuseml run logs {run['name']} {name}", err=err)


def _end(chunks: Iterator[str]) -> tuple[list[str], bool]:
    """The last lines of a text, none longer than 2,000 characters, and whether there are more."""
    kept: collections.deque[str] = collections.deque(maxlen=TAIL)
    count, rest = 0, ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        count += len(lines)
        kept.extend(_shown(line) for line in lines)
        rest = rest[-_LONGEST_LINE:]
    if kept and rest == terminal.RESET:
        # The colour ends with the log; it is no line.
        kept[-1] += rest
    elif rest:
        count += 1
        kept.append(_shown(rest))
    return list(kept), count > TAIL


def _shown(line: str) -> str:
    """A progress bar overwrites its line: the last state of it counts."""
    return line.rstrip("\r").rpartition("\r")[2][-_LONGEST_LINE:]
