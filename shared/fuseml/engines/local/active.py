"""An unfinished run in memory. Every change is written to disk first, so that no published event depends on state that a restart loses.

The scheduler's lock guards all of it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping

from fuseml.domain import errors
from fuseml.engines.local import decisions, journal
from fuseml.engines.local.attempt import Attempt, Outcome, Stop
from fuseml.engines.local.devices import Allocation


class ActiveRun:
    """The plan, the records and the running attempts (`attempts`, by step) of a run."""

    def __init__(self, folder: journal.RunFolder) -> None:
        """Load the run. Raises PermanentError when its folder cannot be read."""
        self.folder = folder
        self.plan = folder.read_plan()
        self.record = folder.record()
        self.steps = {step.name: folder.step(step.name) for step in self.plan.steps}
        self.attempts: dict[str, Attempt] = {}
        self.checkouts = threading.Lock()

    @property
    def expires(self) -> float:
        """When the plan's timeout ends the run, in Unix seconds; infinity without a timeout and for a run that is already being stopped."""
        halted = self.record.ending is not None and self.record.ending.halt
        if self.record.started is None or self.plan.timeout is None or halted:
            return math.inf
        return self.record.started + self.plan.timeout

    def outputs(self) -> Mapping[str, Mapping[str, str]]:
        """Outputs of the finished steps, by step."""
        return {name: record.outputs for name, record in self.steps.items()}

    def start(self, now: float) -> None:
        """Record that the run started: with its first step, or when it ends without one."""
        if self.record.started is None:
            self._save(self.record.model_copy(update={"state": "running", "started": now}))

    def begin(self, step: str, now: float, devices: Allocation | None = None) -> None:
        """Record the start of a new attempt with its devices."""
        record = self.steps[step]
        attempts = (*record.attempts, journal.AttemptRecord(started=now, devices=dict(devices or {})))
        self._save_step(step, record.model_copy(update={"state": "running", "attempts": attempts, "retry_at": None, "wait": None}))

    def requeue(self, step: str) -> None:
        """Record that the last attempt of a running step has no process and gets none: the step begins it anew, under the same number."""
        record = self.steps[step]
        self._save_step(step, record.model_copy(update={"state": "queued", "attempts": record.attempts[:-1]}))

    def wait(self, step: str, cause: str, now: float) -> bool:
        """Record that a queued step waits for devices. Returns whether that is news."""
        record = self.steps[step]
        if record.wait is not None and record.wait.cause == cause:
            return False
        self._save_step(step, record.model_copy(update={"wait": journal.Wait(since=now, cause=cause)}))
        return True

    @property
    def devices(self) -> Iterator[Allocation]:
        """The devices that its running steps hold."""
        return (record.attempts[-1].devices for record in self.steps.values() if record.state == "running")

    def record_launch(self, step: str, runtime: str | None) -> None:
        """Record that the attempt's process is about to exist. `runtime` is the container program, if any."""
        record = self.steps[step]
        last = record.attempts[-1].model_copy(update={"launched": True, "runtime": runtime})
        self._save_step(step, record.model_copy(update={"attempts": (*record.attempts[:-1], last)}))

    def settle(self, step: str, outcome: Outcome, now: float, pause: float) -> None:
        """Record the end of an attempt: the step finishes, or is queued again for a retry. `pause` is the first backoff in seconds."""
        record = self.steps[step]
        last = record.attempts[-1].model_copy(update={"finished": now, "cause": outcome.cause})
        attempts = (*record.attempts[:-1], last)
        retried = len(attempts) <= self.plan.step(step).retries and outcome.state == "failed" and outcome.retryable
        # A run that is ending starts nothing, not even a retry.
        if retried and self.record.ending is None and decisions.outcome(self.plan, self.steps) is None:
            due = now + decisions.backoff(pause, len(attempts))
            self._save_step(step, record.model_copy(update={"state": "queued", "attempts": attempts, "retry_at": due}))
            return
        self._save_step(
            step,
            record.model_copy(
                update={
                    "state": outcome.state,
                    "attempts": attempts,
                    "finished": now,
                    "reason": outcome.reason,
                    "cause": outcome.cause,
                    "outputs": dict(outcome.outputs),
                }
            ),
        )

    def fail(self, step: str, cause: str, now: float) -> None:
        """Record that the step cannot start. It counts as one attempt, because events report failures of attempts only."""
        self.begin(step, now)
        self.settle(step, Outcome("failed", decisions.FAILED, cause, retryable=False), now, 0.0)

    def skip(self, step: str, reason: str, now: float) -> None:
        """Record that the step will not run."""
        self._save_step(step, self.steps[step].model_copy(update={"state": "skipped", "reason": reason, "finished": now}))

    def end(self, ending: journal.Ending) -> None:
        """Record the ending; no further step starts.

        An earlier failure remains the cause, unless a user cancels. A halt always stops running steps.
        """
        earlier = self.record.ending
        if earlier is None or (ending.reason == decisions.CANCELLED and not earlier.halt):
            self._save(self.record.model_copy(update={"ending": ending}))
        elif ending.halt and not earlier.halt:
            self._save(self.record.model_copy(update={"ending": earlier.model_copy(update={"halt": True})}))

    def finish(self, now: float) -> None:
        """Finish a run without running steps: record the remaining steps, then the run. `RunFolder.clean` follows."""
        ending = self.record.ending or journal.Ending(reason=decisions.FAILED, message="the run ended without a reason")
        for name, record in self.steps.items():
            if record.state in ("queued", "waiting", "running"):
                self._close_step(name, record, ending, now)
        outputs: dict[str, str] = {}
        if decisions.state(ending) == "succeeded":
            try:
                outputs = decisions.run_outputs(self.plan, self.steps)
            except errors.PermanentError as error:
                ending = journal.Ending(reason=decisions.FAILED, message=error.message)
        finished = {"state": decisions.state(ending), "finished": now, "ending": ending, "outputs": outputs}
        self._save(self.record.model_copy(update=finished))

    def stop_for(self, ending: journal.Ending) -> Stop:
        """How the ending of the run stops a running step."""
        if ending.reason == decisions.TIMED_OUT:
            return Stop("cancelled", decisions.STEP_CANCELLED, f"the run {ending.message}")
        if ending.reason == decisions.CANCELLED:
            return Stop("cancelled", decisions.STEP_CANCELLED, ending.message)
        return Stop("failed", decisions.FAILED, ending.message)

    def _close_step(self, name: str, record: journal.StepRecord, ending: journal.Ending, now: float) -> None:
        if not record.attempts:
            self.skip(name, decisions.SKIP_STOPPING, now)
            return
        # The run ended before the next retry: the cause of the last attempt remains.
        stop = self.stop_for(ending)
        cause = record.attempts[-1].cause
        state, reason, text = ("failed", decisions.FAILED, cause) if cause else (stop.state, stop.reason, stop.message)
        self._save_step(
            name, record.model_copy(update={"state": state, "reason": reason, "cause": text, "finished": now, "retry_at": None})
        )

    def _save(self, record: journal.RunRecord) -> None:
        self.folder.save(record)
        self.record = record

    def _save_step(self, step: str, record: journal.StepRecord) -> None:
        self.folder.save_step(step, record)
        self.steps[step] = record
