"""Use cases of `run_tracker`."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

import sqlmodel

from functions.run_tracker.deps import Deps
from fuseml.domain import events
from fuseml.domain.plans import identity
from fuseml.engines.tekton.events import observe
from fuseml.store import runs
from fuseml.usecases import lifecycle, step_reuse


class Reads:
    """The reads of the engine by this process: one at a time for each execution. Hints that wait for the same execution share the next read."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: collections.Counter[str] = collections.Counter()
        self._turns: dict[str, threading.Lock] = {}
        self._begun: dict[str, int] = {}

    @contextlib.contextmanager
    def turn(self, execution: str) -> Iterator[bool]:
        """Wait for the turn; yields whether a read that began meanwhile has answered already."""
        with self._lock:
            arrived = next(self._numbers)
            self._waiting[execution] += 1
            turn = self._turns.setdefault(execution, threading.Lock())
        try:
            with turn:
                yield self._begun.get(execution, 0) > arrived
        finally:
            with self._lock:
                self._waiting[execution] -= 1
                if not self._waiting[execution]:
                    del self._waiting[execution], self._turns[execution]
                    self._begun.pop(execution, None)

    @contextlib.contextmanager
    def reading(self, execution: str) -> Iterator[None]:
        """A read of the execution, inside its turn. A failed one answers no other hint."""
        self._begun[execution] = next(self._numbers)
        try:
            yield
        except BaseException:
            del self._begun[execution]
            raise


def facts(deps: Deps, reads: Reads, event: events.Event, proven: bool) -> Sequence[events.Event]:
    """The facts behind the event of an engine: the event itself if it is proven, else the engine's present reports on the run.

    None where they would change nothing: the event concerns another's object, or repeats known facts, or is false. Raises InvalidError for
    data without Tekton's shape, TemporaryError when the engine cannot be reached.
    """
    observation = observe(event)
    if observation is None or not _news(deps, [event]):
        return ()
    if proven:
        return (event,)
    execution = identity.execution_id(observation.run_id, observation.execution)
    with reads.turn(execution) as answered:
        # The read for the first event of a burst usually answers the others.
        if answered or not _news(deps, [event]):
            return ()
        with reads.reading(execution):
            reports = deps.engine.observe(execution)
        return _news(deps, reports)


def _news(deps: Deps, reports: Sequence[events.Event]) -> Sequence[events.Event]:
    """Those reports of engines that would change a run."""
    with deps.store.read() as session:
        return [report for report in reports if _is_news(session, report)]


def _is_news(session: sqlmodel.Session, report: events.Event) -> bool:
    observation = observe(report)
    row = runs.find(session, observation.run_id) if observation else None
    return observation is not None and row is not None and lifecycle.would_change(session, row, observation)


def track(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Apply the observation of an engine. Returns the events to publish: none for objects of others, and for repeated observations."""
    observation = observe(event)
    row = runs.find(session, observation.run_id) if observation else None
    if observation is None or row is None:
        return []
    payloads = lifecycle.apply_observation(session, row, observation)
    if observation.step is not None and observation.state == "succeeded":
        step_reuse.keep(session, row)
    return payloads
