"""A run that has not finished, in memory. Every change is on disk before it is here, so that nothing is told that a restart would forget.

The engine's lock guards all of it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

from fuseml.domain import errors
from fuseml.engines.local import attempt, decisions, journal


class ActiveRun:
    """The plan, the records and the attempts that are under way (`attempts`, by step)."""

    def __init__(self, folder: journal.RunFolder) -> None:
        """Read the run. Raises PermanentError when its folder cannot be read."""
        self.folder = folder
        self.plan = folder.read_plan()
        self.record = folder.record()
        self.steps = {step.name: folder.step(step.name) for step in self.plan.steps}
        self.attempts: dict[str, attempt.Attempt] = {}
        self.checkouts = threading.Lock()

    @property
    def expires(self) -> float:
        """When the plan's timeout ends the run, which it does not do to a run that is being stopped already."""
        halted = self.record.ending is not None and self.record.ending.halt
        if self.record.started is None or self.plan.timeout is None or halted:
            return math.inf
        return self.record.started + self.plan.timeout

    def outputs(self) -> Mapping[str, Mapping[str, str]]:
        """What the steps have written so far."""
        return {name: record.outputs for name, record in self.steps.items()}

    def start(self, now: float) -> None:
        """The first step begins, or the run ends without one."""
        if self.record.started is None:
            self._save(self.record.model_copy(update={"state": "running", "started": now}))

    def begin(self, step: str, now: float) -> None:
        """A new attempt of the step begins."""
        record = self.steps[step]
        attempts = (*record.attempts, journal.AttemptRecord(started=now))
        self._save_step(step, record.model_copy(update={"state": "running", "attempts": attempts, "retry_at": None}))

    def launched(self, step: str, runtime: str | None) -> None:
        """The attempt's process is about to exist."""
        record = self.steps[step]
        last = record.attempts[-1].model_copy(update={"launched": True, "runtime": runtime})
        self._save_step(step, record.model_copy(update={"attempts": (*record.attempts[:-1], last)}))

    def settle(self, step: str, outcome: attempt.Outcome, now: float, pause: float) -> None:
        """An attempt has ended: the step finishes, or is queued again when it may be retried. `pause` is the first backoff in seconds."""
        record = self.steps[step]
        last = record.attempts[-1].model_copy(update={"finished": now, "cause": outcome.cause})
        attempts = (*record.attempts[:-1], last)
        retried = len(attempts) <= self.plan.step(step).retries and outcome.state == "failed" and outcome.retryable
        # Once the run is ending nothing starts any more, not even a retry.
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
        """The step cannot begin. It counts as one attempt, because that is how its failure is told."""
        self.begin(step, now)
        self.settle(step, attempt.Outcome("failed", decisions.FAILED, cause, retryable=False), now, 0.0)

    def skip(self, step: str, reason: str, now: float) -> None:
        """The step will not run."""
        self._save_step(step, self.steps[step].model_copy(update={"state": "skipped", "reason": reason, "finished": now}))

    def end(self, ending: journal.Ending) -> None:
        """Start nothing more. A failure that is known already stays the cause, unless a person cancels; a halt stops what runs in any case."""
        known = self.record.ending
        if known is None or (ending.reason == decisions.CANCELLED and not known.halt):
            self._save(self.record.model_copy(update={"ending": ending}))
        elif ending.halt and not known.halt:
            self._save(self.record.model_copy(update={"ending": known.model_copy(update={"halt": True})}))

    def finish(self, now: float) -> None:
        """Nothing runs and nothing will: settle the steps that are left, then the run, then remove secrets and checkouts."""
        ending = self.record.ending or journal.Ending(reason=decisions.FAILED, message="the run ended without a reason")
        for name, record in self.steps.items():
            if record.state in ("queued", "waiting", "running"):
                self._leave(name, record, ending, now)
        outputs: dict[str, str] = {}
        if decisions.state(ending) == "succeeded":
            try:
                outputs = decisions.run_outputs(self.plan, self.steps)
            except errors.PermanentError as error:
                ending = journal.Ending(reason=decisions.FAILED, message=error.message)
        finished = {"state": decisions.state(ending), "finished": now, "ending": ending, "outputs": outputs}
        self._save(self.record.model_copy(update=finished))
        self.folder.clean()

    def stop_of(self, ending: journal.Ending) -> attempt.Stop:
        """What the end of the run means to a step that runs."""
        if ending.reason == decisions.TIMED_OUT:
            return attempt.Stop("cancelled", decisions.STEP_CANCELLED, f"the run {ending.message}")
        if ending.reason == decisions.CANCELLED:
            return attempt.Stop("cancelled", decisions.STEP_CANCELLED, ending.message)
        return attempt.Stop("failed", decisions.FAILED, ending.message)

    def _leave(self, name: str, record: journal.StepRecord, ending: journal.Ending, now: float) -> None:
        if not record.attempts:
            self.skip(name, decisions.SKIP_STOPPING, now)
            return
        # It was tried before, and the run ended before the next try; its last cause stands.
        stopped = self.stop_of(ending)
        cause = record.attempts[-1].cause
        state, reason, text = ("failed", decisions.FAILED, cause) if cause else (stopped.state, stopped.reason, stopped.message)
        self._save_step(
            name, record.model_copy(update={"state": state, "reason": reason, "cause": text, "finished": now, "retry_at": None})
        )

    def _save(self, record: journal.RunRecord) -> None:
        self.folder.save(record)
        self.record = record

    def _save_step(self, step: str, record: journal.StepRecord) -> None:
        self.folder.save_step(step, record)
        self.steps[step] = record
