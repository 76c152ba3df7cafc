"""Commit statuses: what a git host shows beside a commit about the runs on it.

Each workflow has one status per commit, that of its newest run there. A status follows from the stored run, not from an event, so that late
and repeated events change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fuseml.domain import inert_text

State = Literal["pending", "success", "failure", "error"]

MAX_DESCRIPTION = 140
"""Characters: the least that a git host accepts."""

_PAUSES = (10, 30, 120, 600, 3600)


@dataclass(frozen=True, slots=True)
class Status:
    """A status of a commit; `context` is its name there, `target_url` the address of its details, empty without one."""

    context: str
    state: State
    description: str
    target_url: str = ""


def context(project: str, workflow: str) -> str:
    """The name of the status of a workflow."""
    return f"fuseml/{project}/{workflow}"


def of_run(project: str, workflow: str, run: str, state: str, cause: str | None, public_url: str) -> Status:
    """The status of a run in `state`, with the cause of one that did not succeed.

    A cancelled run, or one that was lost, is an error: nothing is known about the commit. A failed one is a failure.
    """
    text: str
    value: State
    if state == "succeeded":
        value, text = "success", f"{run} succeeded"
    elif state == "failed":
        value, text = "failure", f"{run} failed" + (f": {cause}" if cause else "")
    elif state == "cancelled":
        value, text = "error", f"{run} was cancelled" + (f": {cause}" if cause else "")
    else:
        value, text = "pending", f"{run} waits for an approval" if state == "waiting" else f"{run} is {state}"
    link = f"{public_url.rstrip('/')}/runs/{run}" if public_url else ""
    return Status(context(project, workflow), value, bounded(text), link)


def bounded(text: str) -> str:
    """One line of text that every host accepts."""
    line = " ".join(inert_text.visible(text).split())
    return line if len(line) <= MAX_DESCRIPTION else f"{line[: MAX_DESCRIPTION - 1]}…"


def is_newer(sequence: int, state: State, known_sequence: int, known_state: State) -> bool:
    """Whether the status of the run with this number replaces the known one: that of an older run never does, and an end stays an end."""
    if sequence != known_sequence:
        return sequence > known_sequence
    return known_state == "pending" and state != "pending"


def pause(attempts: int) -> float | None:
    """Seconds until the next attempt after so many failed ones; None when it is given up."""
    return _PAUSES[attempts - 1] if attempts <= len(_PAUSES) else None
