"""Runs as the API returns them: in the shape of FuseML, and in that of the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from fuseml.domain import plans, times, workflows
from fuseml.domain.registry import selector
from fuseml.domain.runs import approval, blame
from fuseml.domain.workflows import matrix
from fuseml.runtime import clock
from fuseml.steps import ranking
from fuseml.store import runs

# The original's value for a time that has not come (infra/platform-facts.md 6.5).
_ZERO_TIME = "0001-01-01T00:00:00Z"
_ORIGINAL_STATUS = {
    "queued": "Pending",
    "waiting": "Pending",
    "running": "Running",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


class CombinationResult(pydantic.BaseModel):
    """A combination of the matrix of the workflow's `step`, and the numbers in its output `metrics`.

    `best`: the step has the outputs of this one, by the `metric` and the `goal` of its matrix.
    """

    step: str
    values: dict[str, str]
    metric: str | None
    goal: str | None
    metrics: dict[str, float]
    best: bool


class StepRun(pydantic.BaseModel):
    """A step of a run. `duration` is in seconds, up to now while the step runs; `log` is the path of the log in this API.

    When a run has finished and the engine has not reported the end of a step, its state and its `finished` follow from those of the run, and
    its outputs are still missing. `cause` is that of a failure, or of the wait of a queued step for devices.

    `reused_from` is the run that executed the step, when this one only reused its outputs; `not_reused` is the reason for which a caching
    step was executed. `approval` is the requested approval and its decision; null for a step without an approval, or before the request.
    `combination` is null for a step without a matrix.
    """

    name: str
    image: str
    state: str
    started: str | None
    finished: str | None
    duration: float | None
    attempts: int
    cause: str | None
    needs: list[str]
    outputs: dict[str, str]
    reused_from: str | None
    not_reused: str | None
    approval: approval.Approval | None
    combination: CombinationResult | None
    log: str


class Binding(selector.Binding):
    """The binding of a selector of a step, for this run and all combinations of the step. Credentials appear by id and key names only."""

    step: str


class Run(pydantic.BaseModel):
    """A run. `ref` is the full name of the branch or tag that its code comes from. `caused_by` is the run whose artifact started this one,
    `waits_for` the run of the same concurrency group after which it may start.

    `settled`: it has finished, and every run that its artifacts start exists.
    """

    name: str
    id: str
    workflow: str
    revision: int
    project: str
    codeset: str | None
    commit: str | None
    ref: str | None
    state: str
    settled: bool
    cause: str | None
    created: str
    started: str | None
    finished: str | None
    duration: float | None
    trigger: dict[str, Any]
    request: str | None
    caused_by: str | None
    concurrency_group: str | None
    waits_for: str | None
    inputs: dict[str, str]
    outputs: dict[str, str]
    steps: list[StepRun]
    bindings: list[Binding]


class OriginalInput(pydantic.BaseModel):
    input: dict[str, Any]
    value: str


class OriginalOutput(pydantic.BaseModel):
    output: dict[str, Any]
    value: str


class OriginalRun(pydantic.BaseModel):
    """`WorkflowRun` of the original API."""

    name: str
    workflowRef: str
    inputs: list[OriginalInput]
    outputs: list[OriginalOutput]
    startTime: str
    completionTime: str
    status: str
    URL: str


def of(row: runs.Run, steps: Sequence[runs.StepRun], waits_for: str | None, *, settled: bool) -> Run:
    """The run as the API returns it."""
    plan = plans.Plan.model_validate(row.plan) if row.plan else None
    planned: Sequence[plans.StepPlan | plans.ReusedStep] = (*plan.reused, *plan.steps) if plan else ()
    by_name = {step.name: step for step in planned}
    best = {step.name: step.outputs.get(matrix.BEST) for step in steps}
    return Run(
        **{
            name: getattr(row, name)
            for name in Run.model_fields
            if name not in ("cause", "duration", "waits_for", "settled", "steps", "bindings")
        },
        cause=blame(row.cause, {step.name: runs.progress(step) for step in steps}),
        waits_for=waits_for,
        settled=settled,
        duration=duration(row.started, row.finished),
        steps=[_step(row, step, by_name.get(step.name), best) for step in steps],
        bindings=bindings_of(plan) if plan else [],
    )


def bindings_of(plan: plans.Plan) -> list[Binding]:
    combined = {step.name: step.combination.step for step in plan.steps if step.combination}
    found = {(combined.get(item.step, item.step), item.binding.name): item.binding for item in plan.bindings}
    return [Binding(step=step, **binding.model_dump()) for (step, _), binding in found.items()]


def _combination(step: runs.StepRun, planned: plans.Combination, best: Mapping[str, str | None]) -> CombinationResult:
    return CombinationResult(
        step=planned.step,
        values=planned.values,
        metric=planned.best.metric if planned.best else None,
        goal=planned.best.goal if planned.best else None,
        metrics=ranking.metrics(step.outputs.get(matrix.METRICS, "")),
        best=planned.best is not None and best.get(planned.step) == step.name,
    )


def _step(row: runs.Run, step: runs.StepRun, plan: plans.StepPlan | plans.ReusedStep | None, best: Mapping[str, str | None]) -> StepRun:
    finished = step.finished or (row.finished if step.execution else None)
    return StepRun(
        name=step.name,
        image=_image(plan) if plan else "",
        state=step.state,
        started=step.started,
        finished=finished,
        duration=duration(step.started, finished),
        attempts=step.attempts,
        cause=step.cause,
        needs=list(plan.needs) if plan else [],
        outputs=step.outputs,
        reused_from=step.reused_from,
        not_reused=plan.cache.not_reused or None if isinstance(plan, plans.StepPlan) and plan.cache else None,
        approval=approval.Approval.model_validate(step.approval) if step.approval else None,
        combination=_combination(step, plan.combination, best) if plan and plan.combination else None,
        log=f"/runs/{step.reused_from or row.name}/logs/{executed_as(row, step.name)}",
    )


def executed_as(row: runs.Run, step: str) -> str:
    """The name of the step in the run that executed it: its own, unless a combination of the same values had another number there."""
    reused = (row.plan or {}).get("reused", ())
    return next((str(item["executed_as"]) for item in reused if item["name"] == step and item.get("executed_as")), step)


def _image(step: plans.StepPlan | plans.ReusedStep) -> str:
    return "".join(
        part.text if isinstance(part, plans.TextPart) else f"{{{{ steps.{part.step}.outputs.{part.output} }}}}"
        for part in step.image
        if not isinstance(part, plans.SecretPart)
    )


def duration(started: str | None, finished: str | None) -> float | None:
    """Seconds from start to finish, or to now."""
    return round(times.between(started, finished or clock.now()), 3) if started else None


def original(row: runs.Run, document: workflows.Workflow, url: str, codeset_urls: Mapping[str, str]) -> OriginalRun:
    """The run in the shape of the original API: a codeset's value is `<git url>:<revision>`."""
    plan = plans.Plan.model_validate(row.plan) if row.plan else None
    values = {**(plan.inputs if plan else {}), **row.inputs}
    address = f"{row.project}/{row.codeset}"
    inputs = [
        OriginalInput(
            input=item.model_dump(mode="json", exclude_none=True),
            value=f"{codeset_urls.get(address, '')}:{row.commit}" if item.type == "codeset" else values.get(item.name, ""),
        )
        for item in document.inputs
    ]
    outputs = [
        OriginalOutput(output=item.model_dump(mode="json", exclude_none=True), value=row.outputs.get(item.name, ""))
        for item in document.outputs
    ]
    return OriginalRun(
        name=row.name,
        workflowRef=row.workflow,
        inputs=inputs,
        outputs=outputs,
        startTime=row.started or _ZERO_TIME,
        completionTime=row.finished or _ZERO_TIME,
        status=_ORIGINAL_STATUS[row.state],
        URL=url,
    )
