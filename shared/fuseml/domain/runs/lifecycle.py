"""The lifecycle of a run that waits for people: which steps are asked for, which an engine may have next, and how it ends.

Such a run is given to engines in several executions, one after the other. An execution holds every step that waits, directly or not, for
no answer; a step is asked for when it could begin; what was approved makes the next execution, once the one before has succeeded. What
was refused, or not answered in time, fails the run as a failing step does. A run that asks nobody is one execution.

Facts only accumulate: what engines saw of each step (`run.advance`), the first end of each execution, the first answer to each question,
executions begun and ended. The states follow from them, so any order and any repetition of what engines tell ends in the same state, and a
run that goes to and fro between running and waiting has come a fact further each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import errors, plans, runs
from fuseml.domain.runs import approval

Planned = Sequence[plans.StepPlan]
"""The steps of a plan in their order, each behind those that it needs. Rules look only at those that are still open."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step run. `execution` is the number of the execution that it belongs to, 0 as long as it belongs to none."""

    progress: runs.Progress = field(default_factory=runs.Progress)
    execution: int = 0
    approval: approval.Approval | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is still to be decided if the step is executed."""
        return self.execution == 0 and self.progress.state not in runs.FINISHED


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How far a run has come. `execution` is the last that was begun, `executed` the last that is known to have succeeded.

    `cancelled` is the reason for which somebody wants the run to stop, while an engine still has to say that it did.
    """

    run: runs.Progress
    steps: Mapping[str, Step]
    execution: int = 0
    executed: int = 0
    cancelled: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether an engine has something to do for the run."""
        return self.execution > self.executed and self.run.state not in runs.FINISHED

    @property
    def is_open(self) -> bool:
        """Whether there are steps of which it is still to be decided if they are executed."""
        return any(step.is_open for step in self.steps.values())

    @property
    def questions(self) -> list[str]:
        """The steps that wait for an answer."""
        return [name for name, step in self.steps.items() if step.progress.state == "waiting" and step.approval and step.approval.is_open]


def observe(lifecycle: Lifecycle, planned: Planned, seen: runs.Observation) -> Lifecycle:
    """The lifecycle after an observation of an engine; `settle` says what follows."""
    if seen.execution > lifecycle.execution:
        return lifecycle  # nobody asked an engine for it
    if seen.step is not None:
        if seen.state != "queued" and lifecycle.run.started is None:
            # A step that moves proves that the run does; the run's own event may be late.
            lifecycle = _noted(lifecycle, runs.Observation(seen.run_id, None, "running", seen.time, started=seen.started))
        return _seen(lifecycle, seen.step, seen)
    for name in seen.skipped:
        lifecycle = _seen(lifecycle, name, runs.Observation(seen.run_id, name, "skipped", seen.time, execution=seen.execution))
    if seen.state not in runs.FINISHED or seen.execution <= lifecycle.executed or lifecycle.run.state in runs.FINISHED:
        return _noted(lifecycle, seen)
    return _ended(_skipped(lifecycle, planned, seen.time), seen)


def answer(
    lifecycle: Lifecycle, step: str | None, decision: approval.Decision, *, by: str | None, comment: str, now: str
) -> tuple[str, Lifecycle]:
    """The step that is meant, `step` or the only one that waits, and the lifecycle with its answer.

    Raises NotFoundError for an unknown step, ConflictError when the step or the run does not wait, InvalidError when several steps wait and
    none is named.
    """
    questions = lifecycle.questions
    if step is None and len(questions) > 1:
        problem = errors.Problem("step", f"several steps wait for an approval: {', '.join(questions)}; name one of them")
        raise errors.InvalidError(problem.message, [problem])
    name = step or next(iter(questions), None)
    if name is None:
        told = [
            f"step {name!r} was {item.approval.outcome()}"
            for name, item in lifecycle.steps.items()
            if item.approval and not item.approval.is_open
        ]
        raise errors.ConflictError("; ".join([f"the run is {lifecycle.run.state}, and no step of it waits for an approval", *told]))
    if name not in lifecycle.steps:
        raise errors.NotFoundError(f"the run has no step {name!r}; its steps are {', '.join(lifecycle.steps)}")
    found = lifecycle.steps[name]
    try:
        if found.approval is None or (found.approval.is_open and name not in questions):
            raise errors.ConflictError(f"it is {found.progress.state} and does not wait for an approval")
        if lifecycle.cancelled is not None and found.approval.is_open:
            raise errors.ConflictError(f"the run is being cancelled: {lifecycle.cancelled}")
        answered = approval.answer(found.approval, decision, by=by, comment=comment, now=now)
    except errors.ConflictError as error:
        raise errors.ConflictError(f"step {name!r} cannot be {decision}: {error.message}") from None
    return name, _with(lifecycle, name, dataclasses.replace(found, approval=answered))


def settle(lifecycle: Lifecycle, planned: Planned, now: str) -> Lifecycle:
    """What follows from the facts: steps skipped, asked for or refused, the next execution begun, the run's state, its end."""
    if lifecycle.run.state not in runs.FINISHED:
        lifecycle = _continued(lifecycle, planned, now)
    return _inferred(_closed(lifecycle, now)) if lifecycle.run.state in runs.FINISHED else lifecycle


def _continued(lifecycle: Lifecycle, planned: Planned, now: str) -> Lifecycle:
    """What follows while the run has not finished."""
    lifecycle = _decided(lifecycle, planned, now)
    refused = refusal(lifecycle)
    if refused is not None:
        lifecycle = _closed(lifecycle, now)
    if lifecycle.is_active:
        return _in_state(lifecycle, "running") if lifecycle.run.state == "waiting" else lifecycle
    if refused is not None:
        return _finished(lifecycle, "failed", refused, now)
    if lifecycle.cancelled is not None:
        return _finished(lifecycle, "cancelled", lifecycle.cancelled, now)
    # A step's events may come after the end of its execution; the next one needs what it has put out.
    if all(step.execution == 0 or step.progress.state in runs.FINISHED for step in lifecycle.steps.values()):
        ready = set(_ready(lifecycle, planned))
        if ready:
            return _begun(lifecycle, ready)
        if not lifecycle.is_open:
            return _finished(lifecycle, "succeeded", None, now)
    if lifecycle.questions:
        return _in_state(lifecycle, "waiting")
    return _in_state(lifecycle, "running") if lifecycle.run.state == "waiting" else lifecycle


def stopped(lifecycle: Lifecycle, state: runs.State, cause: str, now: str) -> Lifecycle:
    """The end of a run of which no engine has anything, or will have: it was cancelled while it waited, or cannot be executed.

    An engine may have got the last execution all the same, from a process that died before it wrote that down; what it reports of the
    steps then still counts.
    """
    return _inferred(_closed(_finished(lifecycle, state, cause, now), now))


def refusal(lifecycle: Lifecycle) -> str | None:
    """Why the run fails without an engine's saying so: a step of no execution that has failed. The first one counts."""
    failed = ((name, step) for name, step in lifecycle.steps.items() if step.execution == 0 and step.progress.state == "failed")
    return next((f"step {name!r} failed: {step.progress.cause}" for name, step in failed), None)


def _ended(lifecycle: Lifecycle, seen: runs.Observation) -> Lifecycle:
    """An execution has ended, and the run with it, unless it succeeded and steps are left."""
    refused = refusal(lifecycle)
    verdict = dataclasses.replace(seen, outputs={**lifecycle.run.outputs, **seen.outputs})
    if refused is not None:
        verdict = dataclasses.replace(verdict, state="failed", cause=refused)
    elif seen.state == "succeeded" and lifecycle.is_open:
        if lifecycle.cancelled is None:
            known = dataclasses.replace(_noted(lifecycle, seen).run, outputs=verdict.outputs)
            return dataclasses.replace(lifecycle, run=known, executed=seen.execution)
        verdict = dataclasses.replace(verdict, state="cancelled", cause=lifecycle.cancelled)
    return dataclasses.replace(lifecycle, run=runs.advance(lifecycle.run, verdict))


def _noted(lifecycle: Lifecycle, seen: runs.Observation) -> Lifecycle:
    """The run's start, if that is news. Its end, and whether it waits, do not follow from one observation alone."""
    before, after = lifecycle.run, runs.advance(lifecycle.run, seen)
    if before.state != "queued" or seen.state in runs.FINISHED:
        after = dataclasses.replace(after, state=before.state, finished=before.finished, cause=before.cause, outputs=before.outputs)
    return dataclasses.replace(lifecycle, run=after)


def _seen(lifecycle: Lifecycle, name: str, seen: runs.Observation) -> Lifecycle:
    step = lifecycle.steps.get(name)
    if step is None or step.execution != seen.execution:
        return lifecycle
    return _advanced(lifecycle, name, seen)


def _skipped(lifecycle: Lifecycle, planned: Planned, now: str) -> Lifecycle:
    """Open steps that need a skipped one are skipped as well."""
    for step in planned:
        if lifecycle.steps[step.name].is_open and any(lifecycle.steps[need].progress.state == "skipped" for need in step.needs):
            lifecycle = _moved(lifecycle, step.name, "skipped", now)
    return lifecycle


def _decided(lifecycle: Lifecycle, planned: Planned, now: str) -> Lifecycle:
    """Open steps that could begin: those whose conditions do not hold are skipped, the others asked for, and refused where the answer was no."""
    stopping = lifecycle.cancelled is not None or refusal(lifecycle) is not None
    for step in planned:
        lifecycle = _skipped(lifecycle, [step], now)
        found = lifecycle.steps[step.name]
        if not found.is_open or any(lifecycle.steps[need].progress.state != "succeeded" for need in step.needs):
            continue
        if found.approval is not None:
            if found.approval.refusal is not None:
                lifecycle = _moved(lifecycle, step.name, "failed", now, found.approval.refusal)
        elif step.approval is not None and not stopping:
            lifecycle = _asked(lifecycle, step, step.approval, now)
    return lifecycle


def _asked(lifecycle: Lifecycle, step: plans.StepPlan, wanted: plans.Approval, now: str) -> Lifecycle:
    """Ask for a step, unless its conditions decide already that it does not run: nobody shall think about what will not happen."""
    outputs = {name: item.progress.outputs for name, item in lifecycle.steps.items()}
    try:
        if not all(plans.holds(condition, outputs) for condition in step.when):
            return _moved(lifecycle, step.name, "skipped", now)
    except errors.PermanentError as error:
        return _moved(lifecycle, step.name, "failed", now, error.message)
    lifecycle = _moved(lifecycle, step.name, "waiting", now)
    return _with(lifecycle, step.name, dataclasses.replace(lifecycle.steps[step.name], approval=approval.ask(wanted, now)))


def _ready(lifecycle: Lifecycle, planned: Planned) -> Iterator[str]:
    """The open steps that wait for no answer, neither themselves nor through what they need."""
    held = {name for name, step in lifecycle.steps.items() if step.is_open}
    for step in planned:
        if step.name not in held or not held.isdisjoint(step.needs):
            continue
        answered = lifecycle.steps[step.name].approval
        if step.approval is None or (answered is not None and answered.decision == "approved"):
            held.discard(step.name)
            yield step.name


def _begun(lifecycle: Lifecycle, names: set[str]) -> Lifecycle:
    """The next execution, of the named steps."""
    number = lifecycle.execution + 1
    steps = {name: dataclasses.replace(step, execution=number) if name in names else step for name, step in lifecycle.steps.items()}
    begun = dataclasses.replace(lifecycle, steps=steps, execution=number)
    return _in_state(begun, "running") if lifecycle.run.state == "waiting" else begun


def _closed(lifecycle: Lifecycle, now: str) -> Lifecycle:
    """Nothing will start any more: what is open is skipped."""
    for name in [name for name, step in lifecycle.steps.items() if step.is_open]:
        lifecycle = _left(lifecycle, name, now)
    return lifecycle


def _inferred(lifecycle: Lifecycle) -> Lifecycle:
    """The run has finished: the steps whose own end was not reported have ended with their execution."""
    for name, step in lifecycle.steps.items():
        if step.execution:
            end = "succeeded" if step.execution <= lifecycle.executed else lifecycle.run.state
            lifecycle = _with(lifecycle, name, dataclasses.replace(step, progress=runs.infer(step.progress, end)))
    return lifecycle


def _left(lifecycle: Lifecycle, name: str, now: str) -> Lifecycle:
    """The step will not run, and nobody is asked about it any more."""
    lifecycle = _moved(lifecycle, name, "skipped", now)
    step = lifecycle.steps[name]
    return _with(lifecycle, name, dataclasses.replace(step, approval=None)) if step.approval and step.approval.is_open else lifecycle


def _finished(lifecycle: Lifecycle, state: runs.State, cause: str | None, now: str) -> Lifecycle:
    seen = runs.Observation("", None, state, now, cause=cause, outputs=lifecycle.run.outputs)
    return dataclasses.replace(lifecycle, run=runs.advance(lifecycle.run, seen))


def _in_state(lifecycle: Lifecycle, state: runs.State) -> Lifecycle:
    return dataclasses.replace(lifecycle, run=dataclasses.replace(lifecycle.run, state=state))


def _moved(lifecycle: Lifecycle, name: str, state: runs.State, now: str, cause: str | None = None) -> Lifecycle:
    return _advanced(lifecycle, name, runs.Observation("", name, state, now, cause=cause))


def _advanced(lifecycle: Lifecycle, name: str, seen: runs.Observation) -> Lifecycle:
    step = lifecycle.steps[name]
    return _with(lifecycle, name, dataclasses.replace(step, progress=runs.advance(step.progress, seen)))


def _with(lifecycle: Lifecycle, name: str, step: Step) -> Lifecycle:
    return dataclasses.replace(lifecycle, steps={**lifecycle.steps, name: step})
