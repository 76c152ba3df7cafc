"""The states of a run and its steps: they only move forward, whatever order and however often observations arrive.

A finished run has no open step: the end of a step whose own report is late or lost is inferred from that of the run (`infer`), until the
report comes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "skipped"]
FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})
_RANK = {"queued": 0, "waiting": 1, "running": 1, "succeeded": 2, "failed": 2, "cancelled": 2, "skipped": 2}
_COUNTED = "Tasks Completed:"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run or one of its steps has come. Times are RFC 3339, `attempts` counts from 1 once it has started.

    An inferred end (`infer`) has no `finished`: the time is not known.
    """

    state: State = "queued"
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    attempts: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the end was reported. An inferred end gives way to the report."""
        return self.finished is not None


@dataclass(frozen=True, slots=True)
class Observation:
    """What one engine event says: of the whole execution, or of `step`. `skipped` names steps of which no event of their own will come.

    `execution` is its number: an engine gets a run that waits for people in several parts (domain.runs.lifecycle).
    """

    run_id: str
    step: str | None
    state: State
    time: str
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    attempts: int = 1
    outputs: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    execution: int = 1


def advance(current: Progress, seen: Observation) -> Progress:
    """The progress after an observation. An observation of an earlier state only fills in what was missing; the first reported end wins."""
    # The earliest start and the most attempts that anything tells of: so it does not matter what comes first.
    begun = seen.started or seen.time if seen.state == "running" else seen.started if seen.state in FINISHED else None
    known = dataclasses.replace(
        current,
        started=min(filter(None, (current.started, begun)), default=None),
        attempts=max(current.attempts, seen.attempts if begun else 0),
    )
    if current.is_final or _RANK[seen.state] < _RANK[current.state]:
        return known
    if seen.state in FINISHED:
        finished = seen.finished or seen.time
        return dataclasses.replace(known, state=seen.state, finished=finished, cause=seen.cause, outputs=dict(seen.outputs))
    return dataclasses.replace(known, state=seen.state)


def infer(step: Progress, end: State) -> Progress:
    """The progress of a step once the run, or its execution, has ended with `end`. A reported end of the step stays as it is.

    Engines name the steps that a successful run skipped, so all others have succeeded. In any other run a step that had started counts as
    cancelled, one that had not as skipped.
    """
    if step.is_final:
        return step
    if end == "succeeded":
        return dataclasses.replace(step, state="succeeded", attempts=max(1, step.attempts))
    return dataclasses.replace(step, state="cancelled" if step.started else "skipped")


def blame(cause: str | None, steps: Mapping[str, Progress]) -> str | None:
    """The cause of a run's failure, better told: where an engine only counts its tasks, the first step that failed and why."""
    if cause and cause.startswith(_COUNTED):
        for name, step in steps.items():
            if step.state == "failed":
                return f"step {name!r} failed: {step.cause}"
    return cause
