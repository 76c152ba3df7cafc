"""The port of workload agents: jobs that a tool runs, each under an id of the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from fuseml.domain import errors

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

ENDS: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})

LOG = 1 << 20
"""Bytes of one answer with a part of a log."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_LONGEST = 64 << 10
_MOST = 200


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its parameters, and the project and run that it is of, for the tool's own records."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a job. `cause` is one line about a failed one; times are Unix milliseconds, 0 before them."""

    state: State
    cause: str = ""
    started: int = 0
    finished: int = 0


class Workload(Protocol):
    """Runs jobs. Ids are `check_id`'s, parameters `check`ed.

    Every call raises TemporaryError when the tool cannot be reached or is busy, PermanentError when the same call cannot succeed, and
    NotFoundError for an unknown id.
    """

    def start(self, id: str, job: Job) -> None:
        """Start a job. The same id and job again change nothing, whatever became of it. Raises ConflictError for another job."""

    def status(self, id: str) -> Status:
        """The present state. An end is final."""

    def logs(self, id: str, offset: int) -> bytes:
        """The log from `offset` on, at most `LOG` bytes; none behind the end. What was read once does not change."""

    def cancel(self, id: str) -> None:
        """Request the end of a job, which its state shows later. An ended job does not change."""

    def outputs(self, id: str) -> Mapping[str, str]:
        """The outputs of a succeeded job, the same at each call. Raises ConflictError before that."""


def check_id(id: str) -> str:
    """The id. Raises InvalidError for one that a URL or a folder could not hold."""
    if not _ID.fullmatch(id):
        raise errors.InvalidError(f"{id[:100]!r} cannot be the id of a job: letters, digits, '.', '_' and '-', at most 200")
    return id


def check(job: Job) -> Job:
    """The job. Raises InvalidError for names and values that no environment could hold."""
    for name, value in (("project", job.project), ("run", job.run)):
        if len(value) > _LONGEST or not _is_text(value):
            raise errors.InvalidError(f"the {name} of a job is text without NUL characters, at most {_LONGEST} characters")
    for name, value in job.parameters.items():
        if not _NAME.fullmatch(name):
            raise errors.InvalidError(f"{name[:100]!r} cannot be the name of a parameter: letters, digits, '_' and '-', at most 100")
        if not _is_text(value) or len(value.encode()) > _LONGEST:
            raise errors.InvalidError(f"the parameter {name!r} has a character that no variable holds, or more than {_LONGEST} bytes")
    if len(job.parameters) > _MOST:
        raise errors.InvalidError(f"a job has at most {_MOST} parameters")
    return job


def _is_text(value: str) -> bool:
    """Whether an environment can hold the value: no NUL, and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
