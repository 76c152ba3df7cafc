"""The states of a run and its steps: they only move forward, in any order and any repetition of observations. Each attempt of a step begins
queued.

A finished run has no open step: the end of a step is inferred from that of the run (`infer`) until the step's own report comes, which may be
late or lost.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "skipped"]
FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped"})
_RANK = {"queued": 0, "waiting": 1, "running": 1}
_ENDED = sys.maxsize
_COUNTED = "Tasks Completed:"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run or a step. Times are RFC 3339; `attempts` counts from 1 once it has started.

    An inferred end (`infer`) has no `finished`: the time is unknown. A queued step waits for its next attempt; its cause is the resource that
    it waits for.
    """

    state: State = "queued"
    started: str | None = None
    finished: str | None = None
    cause: str | None = None
    attempts: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether the end was reported. A report replaces an inferred end."""
        return self.finished is not None


@dataclass(frozen=True, slots=True)
class Observation:
    """The content of one engine event, about the whole execution or about attempt number `attempts` of `step`. `skipped` names steps that get
    no event of their own.

    `execution` is the number of the execution: an engine gets a run with approvals in several ones (domain.runs.lifecycle).
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


def advance(current: Progress, observation: Observation) -> Progress:
    """The progress after an observation. An observation of an earlier state only fills in missing values; the first reported end counts."""
    # The earliest start and the largest number of attempts of all observations do not depend on their order.
    begun = _start(observation)
    before = observation.attempts - 1 if observation.state == "queued" else 0
    progress = dataclasses.replace(
        current,
        started=min(filter(None, (current.started, begun)), default=None),
        attempts=max(current.attempts, observation.attempts if begun else before),
    )
    known, seen = _place(current), _place(observation)
    # An approved step may wait again, for a resource.
    is_earlier = seen < known and not (current.state == "waiting" and observation.state == "queued" and observation.cause)
    if current.is_final or is_earlier:
        return progress
    if observation.state in FINISHED:
        finished = observation.finished or observation.time
        return dataclasses.replace(
            progress, state=observation.state, finished=finished, cause=observation.cause, outputs=dict(observation.outputs)
        )
    # An attempt is queued for one reason: the choice only makes the order irrelevant.
    causes = (current.cause if seen == known else None, observation.cause) if observation.state == "queued" else ()
    return dataclasses.replace(progress, state=observation.state, cause=max(filter(None, causes), default=None))


def _place(item: Progress | Observation) -> tuple[int, int]:
    """The place of a state in the order of the states: the number of its attempt, then its rank. An end follows every attempt."""
    if item.state in FINISHED:
        return _ENDED, 0
    begins = isinstance(item, Progress) and item.state == "queued"
    return max(1, item.attempts + begins), _RANK[item.state]


def _start(observation: Observation) -> str | None:
    if observation.state == "running":
        return observation.started or observation.time
    return observation.started if observation.state in FINISHED else None


def infer(step: Progress, end: State) -> Progress:
    """The progress of a step once the run, or its execution, has ended with `end`. A reported end of the step stays as it is.

    Engines name the steps that a successful run skipped, so all others have succeeded. In any other run a step that had started counts as
    cancelled, one that had not as skipped.
    """
    if step.is_final:
        return step
    if end == "succeeded":
        return dataclasses.replace(step, state="succeeded", cause=None, attempts=max(1, step.attempts))
    return dataclasses.replace(step, state="cancelled" if step.started else "skipped", cause=None)


def blame(cause: str | None, steps: Mapping[str, Progress]) -> str | None:
    """The cause of a run's failure: the first failed step and its cause, where an engine only counts its tasks."""
    if cause and cause.startswith(_COUNTED):
        for name, step in steps.items():
            if step.state == "failed":
                return f"step {name!r} failed: {step.cause}"
    return cause
