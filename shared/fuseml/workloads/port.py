"""The port of tools that train: one job of a tool for one attempt of a step, under a name of the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

State = Literal["absent", "queued", "running", "succeeded", "failed", "cancelled"]
"""The state of a job; `absent` for one that the tool does not know, or knows no longer."""

ENDS: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})

Position = Mapping[str, Any]
"""The place in the log of a job up to which it was read; `{}` is its beginning. Only the tool that gave one reads it."""


@dataclass(frozen=True)
class Resources:
    """The resources of one node, as quantities of Kubernetes; an empty one is left to the tool."""

    cpu: str = ""
    memory: str = ""
    gpu: str = ""


@dataclass(frozen=True)
class Job:
    """A job to submit.

    `name` is a DNS label of at most `LONGEST_NAME` characters. `command` is a command of the shell, run in a copy of the folder `code` where
    the tool takes one, else in the folder of `image`. `secrets` are variables that no object of the tool shows where it has a place for
    them. `options` are fields of the tool's own document, merged over those that FuseML sets.
    """

    name: str
    command: str
    image: str = ""
    code: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    resources: Resources = Resources()
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


LONGEST_NAME = 40
"""JobSet makes names of pods from that of a job, which must stay labels of 63 characters."""


@dataclass(frozen=True)
class Status:
    """The state of a job. `cause` is one line about a failed one. `waiting` is the reason why it has not started: `is_doubtful` where a longer
    wait rarely helps, `is_stuck` where only another job would start."""

    state: State
    cause: str = ""
    waiting: str = ""
    is_doubtful: bool = False
    is_stuck: bool = False


class Workload(Protocol):
    """Trains elsewhere. Every call raises HttpError when the tool refuses it or gives no answer, and may be repeated."""

    takes_code: bool
    """Whether a job gets a copy of the codeset; otherwise its image holds the code."""

    def check(self, job: Job) -> None:
        """Raises StepError for a job that this tool cannot run."""

    def submit(self, job: Job) -> None:
        """Start the job, or complete what a call that was interrupted has begun. Otherwise a job of that name that exists stays as it is."""

    def observe(self, name: str) -> Status:
        """The present state. An end is final, until the tool forgets the job."""

    def logs(self, name: str, position: Position) -> tuple[str, Position]:
        """The log from the position on, and the next position. Lines of another node than the first begin with `[NUMBER] `."""

    def cancel(self, name: str) -> None:
        """Request the end of a job, which its state shows later: `cancelled`, or `absent` where the tool keeps none. An ended or unknown job
        does not change."""

    def outputs(self, name: str) -> Mapping[str, str]:
        """The results that the tool itself keeps of a succeeded job, beside those in its log."""
