"""Moves active runs on: one thread that decides, one for each attempt, everything under one lock.

The deciding thread never waits for a step, a checkout or a receiver of events; it writes records, starts threads, sends signals.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from fuseml.domain import errors, runs
from fuseml.engines.local import active, attempt, decisions, journal, publisher, report

_LOG = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the server was stopped"
_COLLECT = 5.0
"""Seconds that killed steps have to be collected in when the engine stops."""
_AFTER_TROUBLE = 1.0
"""Seconds until a run is looked at again whose state could not be written."""
_LONGEST_WAIT = 60.0
"""Seconds. Deadlines are on the wall clock, which may leap; so the thread never sleeps long."""


class Scheduler:
    """Owns the runs that have not finished. Every method may be called from any thread."""

    def __init__(
        self, host: attempt.Host, event_publisher: publisher.Publisher, limits: decisions.Limits, clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._publisher = event_publisher
        self._limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._active: dict[str, active.ActiveRun] = {}
        self._thread: threading.Thread | None = None
        self._closed = True
        self._stopping = False
        self._grace = limits.grace
        self._give_up = math.inf

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self, folders: Iterable[journal.RunFolder]) -> None:
        """Take over the runs in `folders`, whatever became of them, and go on."""
        with self._changed:
            self._closed = self._stopping = False
            self._grace, self._give_up = self._limits.grace, math.inf
            self._active.clear()
            for folder in folders:
                try:
                    self._recover(folder)
                except (errors.PermanentError, OSError) as error:
                    _LOG.error("a run is left alone: %s", error)
        self._thread = threading.Thread(target=self._work, name="fuseml-scheduler", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Interrupt what runs (SIGTERM, after `timeout` seconds SIGKILL) and return when its end is recorded."""
        if self._thread is None:
            return
        with self._changed:
            self._stopping = True
            self._grace = timeout
            self._give_up = self._clock() + timeout + _COLLECT
            self._changed.notify_all()
        self._thread.join()
        self._thread = None

    def add(self, folder: journal.RunFolder) -> None:
        """Begin with a new run; one that was recorded while the scheduler is stopped is found by its start."""
        with self._changed:
            run_id = folder.path.name
            if not self._closed and run_id not in self._active and folder.record().state not in runs.FINISHED:
                self._active[run_id] = active.ActiveRun(folder)
                self._changed.notify_all()

    def end(self, folder: journal.RunFolder, ending: journal.Ending) -> None:
        """Give an unfinished run an ending. While the scheduler is stopped it is only recorded, and acted on by the next start."""
        with self._changed:
            current = self._active.get(folder.path.name)
            if current is None and self._closed and folder.record().state not in runs.FINISHED:
                current = active.ActiveRun(folder)
            if current is not None:
                current.end(ending)
                self._changed.notify_all()

    def _recover(self, folder: journal.RunFolder) -> None:
        current = active.ActiveRun(folder)
        if current.record.state in runs.FINISHED:
            folder.clean()
            if not folder.announced:
                self._tell_all(current)
            return
        self._active[current.plan.id] = current
        self._tell_all(current)
        for name, record in current.steps.items():
            if record.state == "running":
                last = record.attempts[-1]
                # Not launched: there never was a process, so this very attempt can still be made.
                if last.launched or current.record.ending is None:
                    self._perform(current, name, adopted=last if last.launched else None)

    def _work(self) -> None:
        with self._changed:
            while True:
                now = self._clock()
                due = min((self._safely(current, now) for current in list(self._active.values())), default=math.inf)
                if self._stopping and (now >= self._give_up or not any(current.attempts for current in self._active.values())):
                    self._closed = True
                    return
                self._changed.wait(min(max(0.0, due - now), _LONGEST_WAIT))

    def _safely(self, current: active.ActiveRun, now: float) -> float:
        try:
            return self._advance(current, now)
        except Exception:
            # A full disk, most likely. What is on disk is true; the run goes on from there.
            _LOG.exception("run %s cannot go on now; trying again", current.plan.run)
            return now + _AFTER_TROUBLE

    def _advance(self, current: active.ActiveRun, now: float) -> float:
        """Do what is due in one run. Returns when to look again."""
        if self._stopping and current.attempts:
            current.end(journal.Ending(reason=decisions.FAILED, message=INTERRUPTED, halt=True))
        if current.expires <= now:
            current.end(journal.Ending(reason=decisions.TIMED_OUT, message=f"timed out after {current.plan.timeout} s", halt=True))
        if current.record.ending is None and (ending := decisions.outcome(current.plan, current.steps)) is not None:
            current.end(ending)
        due = self._move(current, now) if current.record.ending is None and not self._stopping else math.inf
        due = min(due, current.expires)
        for step, running in list(current.attempts.items()):
            due = min(due, self._limit(current, step, running, now))
        if current.record.ending is not None and not current.attempts:
            current.finish(now)
            del self._active[current.plan.id]
            self._tell_all(current)
        return due

    def _move(self, current: active.ActiveRun, now: float) -> float:
        """Skip, refuse and start steps. Returns when to look again: at once when that may have changed what can follow."""
        found = decisions.actions(current.plan, current.steps, now)
        free = max(0, self._limits.max_parallel - sum(len(other.attempts) for other in self._active.values()))
        settled = bool(found.skip or found.fail)
        if settled or (found.start and free):
            current.start(now)
        for name, reason in found.skip.items():
            current.skip(name, reason, now)
        for name, cause in found.fail.items():
            current.fail(name, cause, now)
            self._tell(current, name)
        for name in found.start[: 0 if found.fail else free]:
            current.begin(name, now)
            self._perform(current, name)
        if settled:
            self._tell(current)
        return now if settled else found.due

    def _limit(self, current: active.ActiveRun, step: str, running: attempt.Attempt, now: float) -> float:
        """Stop an attempt that has to end. Returns when to look at it again."""
        ending, timeout = current.record.ending, current.plan.step(step).timeout
        expires = current.steps[step].attempts[-1].started + timeout if timeout is not None else math.inf
        if ending is not None and ending.halt:
            running.stop(current.stop_of(ending), now + self._grace)
        elif expires <= now:
            running.stop(attempt.Stop("failed", decisions.STEP_TIMED_OUT, f"timed out after {timeout} s"), now + self._grace)
        return min(running.enforce(now), expires if expires > now else math.inf)

    def _perform(self, current: active.ActiveRun, step: str, adopted: journal.AttemptRecord | None = None) -> None:
        """Set an attempt, whose record is there already, to work on a thread of its own."""
        begun = attempt.Attempt(
            self._host,
            current.folder,
            current.plan.step(step),
            len(current.steps[step].attempts),
            run_id=current.plan.id,
            outputs=current.outputs(),
            checkouts=current.checkouts,
            on_launch=functools.partial(self._launched, current, step),
            adopted=adopted,
        )
        threading.Thread(target=self._attempt, args=(current, step, begun), name=f"fuseml-step-{step}", daemon=True).start()
        current.attempts[step] = begun
        self._tell(current, step)

    def _attempt(self, current: active.ActiveRun, step: str, begun: attempt.Attempt) -> None:
        try:
            outcome = begun.perform()
        except Exception as error:
            _LOG.exception("step %s of run %s ended with an error of the engine", step, current.plan.run)
            outcome = attempt.Outcome("failed", decisions.FAILED, f"an error of the engine: {error}")
        while not self._ended(current, step, outcome):
            time.sleep(_AFTER_TROUBLE)

    def _launched(self, current: active.ActiveRun, step: str, runtime: str | None) -> None:
        with self._changed:
            if self._closed:
                raise errors.TemporaryError(INTERRUPTED)
            current.launched(step, runtime)

    def _ended(self, current: active.ActiveRun, step: str, outcome: attempt.Outcome) -> bool:
        """Record an attempt's end; False when that has to be tried again."""
        with self._changed:
            if self._closed:
                return True  # too late: the next start finds the attempt by its files
            try:
                current.settle(step, outcome, self._clock(), self._limits.backoff)
            except OSError:
                _LOG.exception("the end of step %s of run %s cannot be written; trying again", step, current.plan.run)
                return False
            del current.attempts[step]
            self._tell(current, step)
            self._changed.notify_all()
        return True

    def _tell(self, current: active.ActiveRun, step: str | None = None) -> None:
        told = report.run_events(current.plan, current.record, current.steps)
        if step is not None:
            told += report.step_events(current.plan, step, current.steps[step])
        self._publisher.tell(current.plan.id, report.traced(current.record, told))

    def _tell_all(self, current: active.ActiveRun) -> None:
        done = current.folder.mark_announced if current.record.state in runs.FINISHED else None
        self._publisher.tell(current.plan.id, report.all_events(current.plan, current.record, current.steps), done)
