"""The course of a run that waits for people: which steps are asked for, which an engine may have next, and how it ends.

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
class Course:
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


def observe(course: Course, planned: Planned, seen: runs.Observation) -> Course:
    """The course after an observation of an engine; `settle` says what follows."""
    if seen.execution > course.execution:
        return course  # nobody asked an engine for it
    if seen.step is not None:
        if seen.state != "queued" and course.run.started is None:
            # A step that moves proves that the run does; the run's own event may be late.
            course = _noted(course, runs.Observation(seen.run_id, None, "running", seen.time, started=seen.started))
        return _seen(course, seen.step, seen)
    for name in seen.skipped:
        course = _seen(course, name, runs.Observation(seen.run_id, name, "skipped", seen.time, execution=seen.execution))
    if seen.state not in runs.FINISHED or seen.execution <= course.executed or course.run.state in runs.FINISHED:
        return _noted(course, seen)
    return _ended(_skipped(course, planned, seen.time), seen)


def answer(course: Course, step: str | None, decision: approval.Decision, *, by: str | None, comment: str, now: str) -> tuple[str, Course]:
    """The step that is meant, `step` or the only one that waits, and the course with its answer.

    Raises NotFoundError for an unknown step, ConflictError when the step or the run does not wait, InvalidError when several steps wait and
    none is named.
    """
    questions = course.questions
    if step is None and len(questions) > 1:
        problem = errors.Problem("step", f"several steps wait for an approval: {', '.join(questions)}; say which one is meant")
        raise errors.InvalidError(problem.message, [problem])
    name = step or next(iter(questions), None)
    if name is None:
        told = [
            f"step {name!r} was {item.approval.told()}"
            for name, item in course.steps.items()
            if item.approval and not item.approval.is_open
        ]
        raise errors.ConflictError("; ".join([f"the run is {course.run.state}, and no step of it waits for an approval", *told]))
    if name not in course.steps:
        raise errors.NotFoundError(f"the run has no step {name!r}; its steps are {', '.join(course.steps)}")
    found = course.steps[name]
    try:
        if found.approval is None or (found.approval.is_open and name not in questions):
            raise errors.ConflictError(f"it is {found.progress.state} and does not wait for an approval")
        if course.cancelled is not None and found.approval.is_open:
            raise errors.ConflictError(f"the run is being cancelled: {course.cancelled}")
        answered = approval.answer(found.approval, decision, by=by, comment=comment, now=now)
    except errors.ConflictError as error:
        raise errors.ConflictError(f"step {name!r} cannot be {decision}: {error.message}") from None
    return name, _with(course, name, dataclasses.replace(found, approval=answered))


def settle(course: Course, planned: Planned, now: str) -> Course:
    """What follows from the facts: steps skipped, asked for or refused, the next execution begun, the run's state, its end."""
    if course.run.state in runs.FINISHED:
        return _closed(course, now)
    course = _decided(course, planned, now)
    refused = refusal(course)
    if refused is not None:
        course = _closed(course, now)
    if course.is_active:
        return _in_state(course, "running") if course.run.state == "waiting" else course
    if refused is not None:
        return _finished(course, "failed", refused, now)
    if course.cancelled is not None:
        return _closed(_finished(course, "cancelled", course.cancelled, now), now)
    # A step's events may come after the end of its execution; the next one needs what it has put out.
    if all(step.execution == 0 or step.progress.state in runs.FINISHED for step in course.steps.values()):
        ready = set(_ready(course, planned))
        if ready:
            return _begun(course, ready)
        if not course.is_open:
            return _finished(course, "succeeded", None, now)
    if course.questions:
        return _in_state(course, "waiting")
    return _in_state(course, "running") if course.run.state == "waiting" else course


def stopped(course: Course, state: runs.State, cause: str, now: str) -> Course:
    """The end of a run of which no engine has anything, or will have: it was cancelled while it waited, or cannot be executed."""
    for name, step in course.steps.items():
        if step.progress.state not in runs.FINISHED:
            course = _left(course, name, now)
    return _finished(course, state, cause, now)


def refusal(course: Course) -> str | None:
    """Why the run fails without an engine's saying so: a step of no execution that has failed. The first one counts."""
    failed = ((name, step) for name, step in course.steps.items() if step.execution == 0 and step.progress.state == "failed")
    return next((f"step {name!r} failed: {step.progress.cause}" for name, step in failed), None)


def _ended(course: Course, seen: runs.Observation) -> Course:
    """An execution has ended, and the run with it, unless it succeeded and steps are left."""
    refused = refusal(course)
    verdict = dataclasses.replace(seen, outputs={**course.run.outputs, **seen.outputs})
    if refused is not None:
        verdict = dataclasses.replace(verdict, state="failed", cause=refused)
    elif seen.state == "succeeded" and course.is_open:
        if course.cancelled is None:
            known = dataclasses.replace(_noted(course, seen).run, outputs=verdict.outputs)
            return dataclasses.replace(course, run=known, executed=seen.execution)
        verdict = dataclasses.replace(verdict, state="cancelled", cause=course.cancelled)
    return dataclasses.replace(course, run=runs.advance(course.run, verdict))


def _noted(course: Course, seen: runs.Observation) -> Course:
    """The run's start, if that is news. Its end, and whether it waits, do not follow from one observation alone."""
    before, after = course.run, runs.advance(course.run, seen)
    if before.state != "queued" or seen.state in runs.FINISHED:
        after = dataclasses.replace(after, state=before.state, finished=before.finished, cause=before.cause, outputs=before.outputs)
    return dataclasses.replace(course, run=after)


def _seen(course: Course, name: str, seen: runs.Observation) -> Course:
    step = course.steps.get(name)
    if step is None or step.execution != seen.execution:
        return course
    return _advanced(course, name, seen)


def _skipped(course: Course, planned: Planned, now: str) -> Course:
    """Open steps that need a skipped one are skipped as well."""
    for step in planned:
        if course.steps[step.name].is_open and any(course.steps[need].progress.state == "skipped" for need in step.needs):
            course = _moved(course, step.name, "skipped", now)
    return course


def _decided(course: Course, planned: Planned, now: str) -> Course:
    """Open steps that could begin: those whose conditions do not hold are skipped, the others asked for, and refused where the answer was no."""
    stopping = course.cancelled is not None or refusal(course) is not None
    for step in planned:
        course = _skipped(course, [step], now)
        found = course.steps[step.name]
        if not found.is_open or any(course.steps[need].progress.state != "succeeded" for need in step.needs):
            continue
        if found.approval is not None:
            if found.approval.refusal is not None:
                course = _moved(course, step.name, "failed", now, found.approval.refusal)
        elif step.approval is not None and not stopping:
            course = _asked(course, step, step.approval, now)
    return course


def _asked(course: Course, step: plans.StepPlan, wanted: plans.Approval, now: str) -> Course:
    """Ask for a step, unless its conditions decide already that it does not run: nobody shall think about what will not happen."""
    outputs = {name: item.progress.outputs for name, item in course.steps.items()}
    try:
        if not all(plans.holds(condition, outputs) for condition in step.when):
            return _moved(course, step.name, "skipped", now)
    except errors.PermanentError as error:
        return _moved(course, step.name, "failed", now, error.message)
    course = _moved(course, step.name, "waiting", now)
    return _with(course, step.name, dataclasses.replace(course.steps[step.name], approval=approval.ask(wanted, now)))


def _ready(course: Course, planned: Planned) -> Iterator[str]:
    """The open steps that wait for no answer, neither themselves nor through what they need."""
    held = {name for name, step in course.steps.items() if step.is_open}
    for step in planned:
        if step.name not in held or not held.isdisjoint(step.needs):
            continue
        answered = course.steps[step.name].approval
        if step.approval is None or (answered is not None and answered.decision == "approved"):
            held.discard(step.name)
            yield step.name


def _begun(course: Course, names: set[str]) -> Course:
    """The next execution, of the named steps."""
    number = course.execution + 1
    steps = {name: dataclasses.replace(step, execution=number) if name in names else step for name, step in course.steps.items()}
    begun = dataclasses.replace(course, steps=steps, execution=number)
    return _in_state(begun, "running") if course.run.state == "waiting" else begun


def _closed(course: Course, now: str) -> Course:
    """Nothing will start any more: what is open is skipped."""
    for name in [name for name, step in course.steps.items() if step.is_open]:
        course = _left(course, name, now)
    return course


def _left(course: Course, name: str, now: str) -> Course:
    """The step will not run, and nobody is asked about it any more."""
    course = _moved(course, name, "skipped", now)
    step = course.steps[name]
    return _with(course, name, dataclasses.replace(step, approval=None)) if step.approval and step.approval.is_open else course


def _finished(course: Course, state: runs.State, cause: str | None, now: str) -> Course:
    seen = runs.Observation("", None, state, now, cause=cause, outputs=course.run.outputs)
    return dataclasses.replace(course, run=runs.advance(course.run, seen))


def _in_state(course: Course, state: runs.State) -> Course:
    return dataclasses.replace(course, run=dataclasses.replace(course.run, state=state))


def _moved(course: Course, name: str, state: runs.State, now: str, cause: str | None = None) -> Course:
    return _advanced(course, name, runs.Observation("", name, state, now, cause=cause))


def _advanced(course: Course, name: str, seen: runs.Observation) -> Course:
    step = course.steps[name]
    return _with(course, name, dataclasses.replace(step, progress=runs.advance(step.progress, seen)))


def _with(course: Course, name: str, step: Step) -> Course:
    return dataclasses.replace(course, steps={**course.steps, name: step})
