"""Scheduler of active runs: one thread decides, each attempt has a thread of its own, and one lock guards the state.

The deciding thread never blocks on a step, a checkout, the removal of files or an event consumer. It writes records, renames folders, starts
threads and sends signals. What an attempt's thread waits for cannot delay a time-out, a cancel or the end of the server: an attempt that does
not end after it was killed is abandoned.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from fuseml.domain import errors, runs
from fuseml.engines.local import active, decisions, journal, process, report
from fuseml.engines.local.attempt import Attempt, Outcome, Stop
from fuseml.engines.local.handout import Handout
from fuseml.engines.local.host import Host
from fuseml.engines.local.publisher import Publisher

_LOG = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the server was stopped"
LOST = "stopped: the records of its run were removed"
_NO_PROJECT = "_"
"""Stands for the project of a run without one, such as a scheduled run without code."""
_COLLECT = 10.0
"""Seconds for the collection of a killed step; the attempt is abandoned then."""
_LAST_COLLECT = 3.0
"""The same when the engine stops."""
_LAST_RECORDS = 1.0
"""Seconds for the last records when the engine stops."""
_WRITE_RETRY = 1.0
"""Seconds before the state of a run is written again after a failed write."""
_DEVICES = 1.0
"""Seconds between two looks at an abandoned step that holds the devices of another."""
_LONGEST_WAIT = 60.0
"""Seconds between two checks at most: deadlines are wall-clock times, and the wall clock may jump."""


class Scheduler:
    """Owner of the unfinished runs. All methods are thread-safe."""

    def __init__(self, host: Host, publisher: Publisher, limits: decisions.Limits, clock: Callable[[], float]) -> None:
        self._host = host
        self._publisher = publisher
        self._limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._active: dict[str, active.ActiveRun] = {}
        self._handout = Handout(host.devices, self._active)
        self._thread: threading.Thread | None = None
        self._closed = True
        self._stopping = False
        self._grace = limits.grace
        self._give_up = math.inf

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self, folders: Iterable[journal.RunFolder]) -> None:
        """Take over the runs in `folders`, in whatever state an earlier process left them, and continue them."""
        with self._changed:
            self._closed = self._stopping = False
            self._grace, self._give_up = self._limits.grace, math.inf
            self._active.clear()
            self._handout = Handout(self._host.devices, self._active)
            for folder in folders:
                try:
                    self._recover(folder)
                except (errors.FusemlError, OSError) as error:
                    _LOG.error("a run is skipped, because it cannot be read: %s", error)
                    self._active.pop(folder.path.name, None)
                    self._handout.withhold(folder)
        self._thread = threading.Thread(target=self._work, name="fuseml-scheduler", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Interrupt running steps (SIGTERM, after `timeout` seconds SIGKILL) and return when their ends are recorded."""
        if self._thread is None:
            return
        with self._changed:
            self._stopping = True
            self._grace = timeout
            self._give_up = self._clock() + timeout + _LAST_COLLECT + _LAST_RECORDS
            self._changed.notify_all()
        self._thread.join()
        self._thread = None

    def holds(self, run_id: str) -> bool:
        """Whether the run is unfinished and in memory."""
        with self._changed:
            return run_id in self._active

    def add(self, folder: journal.RunFolder) -> None:
        """Schedule a new run. A stopped scheduler ignores it: `start` reads it from its folder."""
        with self._changed:
            run_id = folder.path.name
            if not self._closed and run_id not in self._active and folder.record().state not in runs.FINISHED:
                self._active[run_id] = active.ActiveRun(folder)
                self._changed.notify_all()

    def end(self, folder: journal.RunFolder, ending: journal.Ending) -> None:
        """End an unfinished run. A stopped scheduler only records the ending; the next `start` acts on it. A run whose folder was removed or
        damaged has nothing to record; its steps are stopped.
        """
        with self._changed:
            run = self._active.get(folder.path.name)
            if run is None and self._closed and folder.is_whole and folder.record().state not in runs.FINISHED:
                run = active.ActiveRun(folder)
            if run is not None:
                if folder.is_whole:
                    run.end(ending)
                self._changed.notify_all()

    def _recover(self, folder: journal.RunFolder) -> None:
        run = active.ActiveRun(folder)
        self._handout.recover(run)
        if run.record.state in runs.FINISHED:
            folder.clean(self._host.trash)
            if not folder.published:
                self._publish_all(run)
            return
        self._active[run.plan.id] = run
        self._publish_all(run)
        for name, record in run.steps.items():
            if record.state != "running":
                continue
            last = record.attempts[-1]
            if last.launched and process.has_begun(folder.step_path(name)):
                self._start_attempt(run, name, adopted=last)
            elif run.record.ending is None:
                # This server may hand out other devices, and give them to another step first.
                run.requeue(name)

    def _work(self) -> None:
        with self._changed:
            while True:
                now = self._clock()
                self._handout.begin_round()
                due = min((self._advance_safely(run, now) for run in list(self._active.values())), default=math.inf)
                if self._stopping and (now >= self._give_up or not any(run.attempts for run in self._active.values())):
                    self._closed = True
                    return
                self._changed.wait(min(max(0.0, due - now), _LONGEST_WAIT))

    def _advance_safely(self, run: active.ActiveRun, now: float) -> float:
        try:
            return self._advance(run, now)
        except Exception:
            # The likely cause is a full disk. The records on disk are consistent; the run continues from them.
            _LOG.exception("run %s cannot continue now; trying again", run.plan.run)
            return now + _WRITE_RETRY

    def _advance(self, run: active.ActiveRun, now: float) -> float:
        """Perform the due actions of one run. Returns the time of its next check."""
        if not run.folder.is_whole:
            return self._drop(run, now)
        if self._stopping and run.attempts:
            run.end(journal.Ending(reason=decisions.FAILED, message=INTERRUPTED, halt=True))
        if run.expires <= now:
            run.end(journal.Ending(reason=decisions.TIMED_OUT, message=f"timed out after {run.plan.timeout} s", halt=True))
        if run.record.ending is None and (ending := decisions.outcome(run.plan, run.steps)) is not None:
            run.end(ending)
        due = self._act(run, now) if run.record.ending is None and not self._stopping else math.inf
        due = min(due, run.expires)
        for step, attempt in list(run.attempts.items()):
            due = min(due, self._enforce_limits(run, step, attempt, now))
        if run.record.ending is not None and not run.attempts:
            run.finish(now)
            run.folder.clean(self._host.trash)
            del self._active[run.plan.id]
            self._publish_all(run)
            return now
        return due

    def _drop(self, run: active.ActiveRun, now: float) -> float:
        """Stop the steps of a run whose folder was removed or damaged, and forget it then. Returns the time of its next check."""
        if not run.attempts:
            _LOG.error("run %s is given up, because its records in %s were removed", run.plan.run, run.folder.path)
            del self._active[run.plan.id]
            return now  # what its steps held is free for others
        due = math.inf
        for step, attempt in list(run.attempts.items()):
            kill_at = now + self._grace
            attempt.stop(Stop("cancelled", decisions.STEP_CANCELLED, LOST), kill_at, kill_at + _COLLECT)
            if attempt.abandonment(now) is not None:
                self._handout.abandon(run, step, attempt.is_performing)
                del run.attempts[step]
                due = now
            else:
                due = min(due, attempt.enforce(now))
        return due

    def _act(self, run: active.ActiveRun, now: float) -> float:
        """Skip, fail and start steps. Returns the time of the next check, `now` when a skip or failure may allow further actions."""
        actions = decisions.actions(run.plan, run.steps, now)
        actions.fail |= self._handout.shortages(run, actions.start)
        changed = bool(actions.skip or actions.fail)
        if changed:
            run.start(now)
        for name, reason in actions.skip.items():
            run.skip(name, reason, now)
        for name, cause in actions.fail.items():
            run.fail(name, cause, now)
            self._publish(run, name)
        if changed:
            self._publish(run)
        due = math.inf if actions.fail else self._start_steps(run, actions.start, now)
        return now if changed else min(due, actions.due)

    def _start_steps(self, run: active.ActiveRun, names: Iterable[str], now: float) -> float:
        """Start the steps for which there are places and devices. Returns the time of the next check."""
        free = self._limits.max_parallel - sum(len(other.attempts) for other in self._active.values())
        due = math.inf
        for name in names:
            if free <= 0:
                break
            allocated = self._handout.allocate(run, name)
            if isinstance(allocated, str):
                if run.wait(name, allocated, now):
                    self._publish(run, name)
                due = now + _DEVICES if self._handout.keeps else due
                continue
            run.start(now)
            run.begin(name, now, allocated)
            self._start_attempt(run, name)
            free -= 1
        return due

    def _enforce_limits(self, run: active.ActiveRun, step: str, attempt: Attempt, now: float) -> float:
        """Stop an attempt that has to end. Returns the time of its next check."""
        ending, timeout = run.record.ending, run.plan.step(step).timeout
        expires = run.steps[step].attempts[-1].started + timeout if timeout is not None else math.inf
        stop = None
        if ending is not None and ending.halt:
            stop = run.stop_for(ending)
        elif expires <= now:
            stop = Stop("failed", decisions.STEP_TIMED_OUT, f"timed out after {timeout} s")
        if stop is not None:
            kill_at = now + self._grace
            attempt.stop(stop, kill_at, kill_at + (_LAST_COLLECT if self._stopping else _COLLECT))
        abandonment = attempt.abandonment(now)
        if abandonment is not None:
            _LOG.warning("step %s of run %s was killed, but what its end waits for does not return; it is abandoned", step, run.plan.run)
            self._handout.abandon(run, step, attempt.is_performing)
            self._settle(run, step, abandonment)
            return now
        return min(attempt.enforce(now), expires if expires > now else math.inf)

    def _start_attempt(self, run: active.ActiveRun, step: str, adopted: journal.AttemptRecord | None = None) -> None:
        """Start the thread of an attempt; its record exists already."""
        attempt = Attempt(
            self._host,
            run.folder,
            run.plan.step(step),
            len(run.steps[step].attempts),
            run_id=run.plan.id,
            project=run.plan.project or _NO_PROJECT,
            outputs=run.outputs(),
            checkouts=run.checkouts,
            on_launch=functools.partial(self._record_launch, run, step),
            devices=run.steps[step].attempts[-1].devices,
            adopted=adopted,
        )
        threading.Thread(target=self._run_attempt, args=(run, step, attempt), name=f"fuseml-step-{step}", daemon=True).start()
        run.attempts[step] = attempt
        self._publish(run, step)

    def _run_attempt(self, run: active.ActiveRun, step: str, attempt: Attempt) -> None:
        try:
            outcome = attempt.perform()
        except Exception as error:
            _LOG.exception("step %s of run %s ended with an engine error", step, run.plan.run)
            outcome = Outcome("failed", decisions.FAILED, f"engine error: {error}")
        while not self._record_end(run, step, attempt, outcome):
            time.sleep(_WRITE_RETRY)

    def _record_launch(self, run: active.ActiveRun, step: str, runtime: str | None) -> None:
        with self._changed:
            if self._closed or step not in run.attempts:
                raise errors.TemporaryError(INTERRUPTED)
            run.record_launch(step, runtime)

    def _record_end(self, run: active.ActiveRun, step: str, attempt: Attempt, outcome: Outcome) -> bool:
        """Record the end of an attempt. Returns False when the write failed and must be repeated."""
        with self._changed:
            if self._closed:
                return True  # too late: the next start recovers the attempt from its files
            if run.attempts.get(step) is not attempt:
                self._changed.notify_all()
                return True  # abandoned; its devices are free now
            try:
                self._settle(run, step, outcome)
            except OSError:
                _LOG.exception("the end of step %s of run %s cannot be written; trying again", step, run.plan.run)
                return False
            self._changed.notify_all()
        return True

    def _settle(self, run: active.ActiveRun, step: str, outcome: Outcome) -> None:
        is_recorded = run.folder.is_whole
        if is_recorded:
            run.settle(step, outcome, self._clock(), self._limits.backoff)
        del run.attempts[step]
        if is_recorded:
            self._publish(run, step)

    def _publish(self, run: active.ActiveRun, step: str | None = None) -> None:
        events = report.run_events(run.plan, run.record, run.steps)
        if step is not None:
            events += report.step_events(run.plan, step, run.steps[step])
        self._publisher.enqueue(run.plan.id, report.traced(run.record, events))

    def _publish_all(self, run: active.ActiveRun) -> None:
        on_published = run.folder.mark_published if run.record.state in runs.FINISHED else None
        self._publisher.enqueue(run.plan.id, report.all_events(run.plan, run.record, run.steps), on_published)
