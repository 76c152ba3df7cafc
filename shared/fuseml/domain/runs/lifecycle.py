"""The lifecycle of a run with approvals: the steps to approve, the steps of the next execution, and the end of the run.

Engines get such a run in several executions, one after the other. An execution holds every step that waits, directly or not, for no
approval. The approval of a step is requested when the step could begin; approved steps make the next execution, once the previous one has
succeeded. A rejected or expired approval fails the run as a failing step does. A run without approvals is one execution.

Facts only accumulate: observations of each step (`runs.advance`), the first end of each execution, the first decision on each approval,
executions begun and ended. The states follow from the facts, so that any order and any repetition of reports ends in the same state, and a
run that changes between running and waiting has one fact more each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import errors, plans, runs
from fuseml.domain.runs import approval

Steps = Sequence[plans.StepPlan]
"""The steps of a plan in their order, each behind those that it needs. The rules only read those that are still open."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step run. `execution` is the number of its execution, 0 while it belongs to none."""

    progress: runs.Progress = field(default_factory=runs.Progress)
    execution: int = 0
    approval: approval.Approval | None = None

    @property
    def is_open(self) -> bool:
        """Whether the step may still be executed or skipped."""
        return self.execution == 0 and self.progress.state not in runs.FINISHED


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The progress of a run and its steps. `execution` is the number of the last execution that has begun, `executed` of the last that is
    known to have succeeded.

    `cancelled` is the reason of a requested cancellation that the engine has not yet confirmed.
    """

    run: runs.Progress
    steps: Mapping[str, Step]
    execution: int = 0
    executed: int = 0
    cancelled: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether an execution is under way."""
        return self.execution > self.executed and self.run.state not in runs.FINISHED

    @property
    def is_open(self) -> bool:
        """Whether steps are open."""
        return any(step.is_open for step in self.steps.values())

    @property
    def pending_approvals(self) -> list[str]:
        """The steps that wait for an approval."""
        return [name for name, step in self.steps.items() if step.progress.state == "waiting" and step.approval and step.approval.is_open]


def observe(lifecycle: Lifecycle, steps: Steps, observation: runs.Observation) -> Lifecycle:
    """The lifecycle after an observation of an engine; `settle` derives the consequences."""
    if observation.execution > lifecycle.execution:
        return lifecycle  # no such execution was submitted
    if observation.step is not None:
        if observation.state != "queued" and lifecycle.run.started is None:
            # A step that has begun proves that the run has; the run's own event may be late.
            lifecycle = _record_start(
                lifecycle, runs.Observation(observation.run_id, None, "running", observation.time, started=observation.started)
            )
        return _observe_step(lifecycle, observation.step, observation)
    for name in observation.skipped:
        lifecycle = _observe_step(
            lifecycle, name, runs.Observation(observation.run_id, name, "skipped", observation.time, execution=observation.execution)
        )
    if observation.state not in runs.FINISHED or observation.execution <= lifecycle.executed or lifecycle.run.state in runs.FINISHED:
        return _record_start(lifecycle, observation)
    return _end_execution(_skip_dependents(lifecycle, steps, observation.time), observation)


def decide(
    lifecycle: Lifecycle, step: str | None, decision: approval.Decision, *, by: str | None, comment: str, now: str
) -> tuple[str, Lifecycle]:
    """The decided step, `step` or the only one that waits, and the lifecycle with the decision.

    Raises NotFoundError for an unknown step, ConflictError when the step or the run does not wait, InvalidError when several steps wait and
    none is named.
    """
    pending = lifecycle.pending_approvals
    if step is None and len(pending) > 1:
        problem = errors.Problem("step", f"several steps wait for an approval: {', '.join(pending)}; name one of them")
        raise errors.InvalidError(problem.message, [problem])
    name = step or next(iter(pending), None)
    if name is None:
        decisions = [
            f"step {name!r} was {item.approval.outcome()}"
            for name, item in lifecycle.steps.items()
            if item.approval and not item.approval.is_open
        ]
        raise errors.ConflictError("; ".join([f"the run is {lifecycle.run.state}, and no step of it waits for an approval", *decisions]))
    if name not in lifecycle.steps:
        raise errors.NotFoundError(f"the run has no step {name!r}; its steps are {', '.join(lifecycle.steps)}")
    current = lifecycle.steps[name]
    try:
        if current.approval is None or (current.approval.is_open and name not in pending):
            raise errors.ConflictError(f"it is {current.progress.state} and does not wait for an approval")
        if lifecycle.cancelled is not None and current.approval.is_open:
            raise errors.ConflictError(f"the run is being cancelled: {lifecycle.cancelled}")
        decided = approval.decide(current.approval, decision, by=by, comment=comment, now=now)
    except errors.ConflictError as error:
        raise errors.ConflictError(f"step {name!r} cannot be {decision}: {error.message}") from None
    return name, _with_step(lifecycle, name, dataclasses.replace(current, approval=decided))


def settle(lifecycle: Lifecycle, steps: Steps, now: str) -> Lifecycle:
    """The lifecycle with all consequences of its facts: steps skipped or failed, approvals requested, the next execution begun, the run's end."""
    if lifecycle.run.state not in runs.FINISHED:
        lifecycle = _proceed(lifecycle, steps, now)
    return _infer_ends(_close(lifecycle, now)) if lifecycle.run.state in runs.FINISHED else lifecycle


def _proceed(lifecycle: Lifecycle, steps: Steps, now: str) -> Lifecycle:
    """The consequences while the run has not finished."""
    lifecycle = _advance_open_steps(lifecycle, steps, now)
    refused = refusal(lifecycle)
    if refused is not None:
        lifecycle = _close(lifecycle, now)
    if lifecycle.is_active:
        return _in_state(lifecycle, "running") if lifecycle.run.state == "waiting" else lifecycle
    if refused is not None:
        return _finish(lifecycle, "failed", refused, now)
    if lifecycle.cancelled is not None:
        return _finish(lifecycle, "cancelled", lifecycle.cancelled, now)
    # The events of a step may come after the end of its execution; the next execution needs the outputs.
    if all(step.execution == 0 or step.progress.state in runs.FINISHED for step in lifecycle.steps.values()):
        ready = set(_ready(lifecycle, steps))
        if ready:
            return _begin_execution(lifecycle, ready)
        if not lifecycle.is_open:
            return _finish(lifecycle, "succeeded", None, now)
    if lifecycle.pending_approvals:
        return _in_state(lifecycle, "waiting")
    return _in_state(lifecycle, "running") if lifecycle.run.state == "waiting" else lifecycle


def stop(lifecycle: Lifecycle, state: runs.State, cause: str, now: str) -> Lifecycle:
    """The end of a run without an execution in the engine: it was cancelled while it waited, or cannot be executed.

    An engine may nevertheless have the last execution, from a process that died before it recorded the submission; the engine's reports of
    the steps still count.
    """
    return _infer_ends(_close(_finish(lifecycle, state, cause, now), now))


def refusal(lifecycle: Lifecycle) -> str | None:
    """The cause of a failure outside of any execution, of a rejected or expired approval. The first failed step counts."""
    failed = ((name, step) for name, step in lifecycle.steps.items() if step.execution == 0 and step.progress.state == "failed")
    return next((f"step {name!r} failed: {step.progress.cause}" for name, step in failed), None)


def _end_execution(lifecycle: Lifecycle, observation: runs.Observation) -> Lifecycle:
    """End an execution, and the run with it unless the execution succeeded and steps are open."""
    refused = refusal(lifecycle)
    verdict = dataclasses.replace(observation, outputs={**lifecycle.run.outputs, **observation.outputs})
    if refused is not None:
        verdict = dataclasses.replace(verdict, state="failed", cause=refused)
    elif observation.state == "succeeded" and lifecycle.is_open:
        if lifecycle.cancelled is None:
            progress = dataclasses.replace(_record_start(lifecycle, observation).run, outputs=verdict.outputs)
            return dataclasses.replace(lifecycle, run=progress, executed=observation.execution)
        verdict = dataclasses.replace(verdict, state="cancelled", cause=lifecycle.cancelled)
    return dataclasses.replace(lifecycle, run=runs.advance(lifecycle.run, verdict))


def _record_start(lifecycle: Lifecycle, observation: runs.Observation) -> Lifecycle:
    """Record the run's start. Its end, and whether it waits, do not follow from one observation alone."""
    before, after = lifecycle.run, runs.advance(lifecycle.run, observation)
    if before.state != "queued" or observation.state in runs.FINISHED:
        after = dataclasses.replace(after, state=before.state, finished=before.finished, cause=before.cause, outputs=before.outputs)
    return dataclasses.replace(lifecycle, run=after)


def _observe_step(lifecycle: Lifecycle, name: str, observation: runs.Observation) -> Lifecycle:
    step = lifecycle.steps.get(name)
    if step is None or step.execution != observation.execution:
        return lifecycle
    return _apply(lifecycle, name, observation)


def _skip_dependents(lifecycle: Lifecycle, steps: Steps, now: str) -> Lifecycle:
    """Skip the open steps that need a skipped one."""
    for step in steps:
        if lifecycle.steps[step.name].is_open and any(lifecycle.steps[need].progress.state == "skipped" for need in step.needs):
            lifecycle = _move(lifecycle, step.name, "skipped", now)
    return lifecycle


def _advance_open_steps(lifecycle: Lifecycle, steps: Steps, now: str) -> Lifecycle:
    """Advance the open steps that could begin: skip those whose conditions do not hold, request approvals, fail the rejected ones."""
    stopping = lifecycle.cancelled is not None or refusal(lifecycle) is not None
    for step in steps:
        lifecycle = _skip_dependents(lifecycle, [step], now)
        current = lifecycle.steps[step.name]
        if not current.is_open or any(lifecycle.steps[need].progress.state != "succeeded" for need in step.needs):
            continue
        if current.approval is not None:
            if current.approval.refusal is not None:
                lifecycle = _move(lifecycle, step.name, "failed", now, current.approval.refusal)
        elif step.approval is not None and not stopping:
            lifecycle = _request_approval(lifecycle, step, step.approval, now)
    return lifecycle


def _request_approval(lifecycle: Lifecycle, step: plans.StepPlan, approval_plan: plans.Approval, now: str) -> Lifecycle:
    """Request the approval of a step, unless its conditions exclude it: people are not asked about steps that will not run.

    A step that needs no approval under the approval's own conditions stays open, and `_ready` lists it.
    """
    outputs = _outputs(lifecycle)
    try:
        if not all(plans.holds(condition, outputs) for condition in step.when):
            return _move(lifecycle, step.name, "skipped", now)
        if not approval.is_needed(approval_plan, outputs):
            return lifecycle
        request = approval.request(approval_plan, now, outputs)
    except errors.PermanentError as error:
        return _move(lifecycle, step.name, "failed", now, error.message)
    lifecycle = _move(lifecycle, step.name, "waiting", now)
    return _with_step(lifecycle, step.name, dataclasses.replace(lifecycle.steps[step.name], approval=request))


def _outputs(lifecycle: Lifecycle) -> dict[str, Mapping[str, str]]:
    return {name: item.progress.outputs for name, item in lifecycle.steps.items()}


def _ready(lifecycle: Lifecycle, steps: Steps) -> Iterator[str]:
    """The open steps that wait for no approval, directly or through the steps that they need."""
    held = {name for name, step in lifecycle.steps.items() if step.is_open}
    for step in steps:
        if step.name not in held or not held.isdisjoint(step.needs):
            continue
        if _is_free(lifecycle, step):
            held.discard(step.name)
            yield step.name


def _is_free(lifecycle: Lifecycle, step: plans.StepPlan) -> bool:
    """Whether the step waits for no approval of its own. The conditions of an approval are known once the steps before it have succeeded."""
    current = lifecycle.steps[step.name].approval
    if step.approval is None or current is not None:
        return current is None or current.decision == "approved"
    is_decidable = all(lifecycle.steps[need].progress.state == "succeeded" for need in step.needs)
    return is_decidable and not approval.is_needed(step.approval, _outputs(lifecycle))


def _begin_execution(lifecycle: Lifecycle, names: set[str]) -> Lifecycle:
    """Begin the next execution, of the named steps."""
    number = lifecycle.execution + 1
    steps = {name: dataclasses.replace(step, execution=number) if name in names else step for name, step in lifecycle.steps.items()}
    begun = dataclasses.replace(lifecycle, steps=steps, execution=number)
    return _in_state(begun, "running") if lifecycle.run.state == "waiting" else begun


def _close(lifecycle: Lifecycle, now: str) -> Lifecycle:
    """Skip the open steps: no further step will begin."""
    for name in [name for name, step in lifecycle.steps.items() if step.is_open]:
        lifecycle = _skip(lifecycle, name, now)
    return lifecycle


def _infer_ends(lifecycle: Lifecycle) -> Lifecycle:
    """Infer the ends of the steps of a finished run that were not reported from the ends of their executions."""
    for name, step in lifecycle.steps.items():
        if step.execution:
            end = "succeeded" if step.execution <= lifecycle.executed else lifecycle.run.state
            lifecycle = _with_step(lifecycle, name, dataclasses.replace(step, progress=runs.infer(step.progress, end)))
    return lifecycle


def _skip(lifecycle: Lifecycle, name: str, now: str) -> Lifecycle:
    """Skip a step and withdraw its approval."""
    lifecycle = _move(lifecycle, name, "skipped", now)
    step = lifecycle.steps[name]
    return _with_step(lifecycle, name, dataclasses.replace(step, approval=None)) if step.approval and step.approval.is_open else lifecycle


def _finish(lifecycle: Lifecycle, state: runs.State, cause: str | None, now: str) -> Lifecycle:
    observation = runs.Observation("", None, state, now, cause=cause, outputs=lifecycle.run.outputs)
    return dataclasses.replace(lifecycle, run=runs.advance(lifecycle.run, observation))


def _in_state(lifecycle: Lifecycle, state: runs.State) -> Lifecycle:
    return dataclasses.replace(lifecycle, run=dataclasses.replace(lifecycle.run, state=state))


def _move(lifecycle: Lifecycle, name: str, state: runs.State, now: str, cause: str | None = None) -> Lifecycle:
    return _apply(lifecycle, name, runs.Observation("", name, state, now, cause=cause))


def _apply(lifecycle: Lifecycle, name: str, observation: runs.Observation) -> Lifecycle:
    step = lifecycle.steps[name]
    return _with_step(lifecycle, name, dataclasses.replace(step, progress=runs.advance(step.progress, observation)))


def _with_step(lifecycle: Lifecycle, name: str, step: Step) -> Lifecycle:
    return dataclasses.replace(lifecycle, steps={**lifecycle.steps, name: step})
