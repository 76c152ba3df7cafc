"""Plans derived from plans: for a run that is repeated, resumed where it failed, or executed in part. Approvals are requested again.

The result is a plan like any other, so that every engine executes it: the recorded outputs of reused steps stand in the values of the other
steps as text, and `Plan.reused` records their origin. Secrets stay `SecretPart`s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fuseml.domain import errors, plans
from fuseml.domain.plans import conversions, identity


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that has succeeded: the run that executed it, its outputs, and its name there, if that may be another."""

    run: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    executed_as: str = ""


def rename(plan: plans.Plan, run_id: str, name: str) -> plans.Plan:
    """The same plan under another identity. Only the id, the name, and the variable with the run's name change."""
    before, after = plans.text(plan.run), plans.text(name)

    def renamed(step: plans.StepPlan) -> plans.StepPlan:
        variables = (
            # A workflow may set the variable itself; its value stays.
            variable.model_copy(update={"value": after}) if variable.name == plans.RUN_VARIABLE and variable.value == before else variable
            for variable in step.variables
        )
        return step.model_copy(update={"variables": tuple(variables)})

    return plan.model_copy(update={"id": run_id, "run": name, "steps": tuple(renamed(step) for step in plan.steps)})


def up_to(plan: plans.Plan, step: str) -> plans.Plan:
    """`step` and the steps that it waits for, directly or not. Raises NotFoundError for an unknown step."""
    kept: set[str] = set()
    pending = [planned.name for planned in _named(plan, step)]
    while pending:
        kept.add(pending.pop())
        pending += [need for item in plan.steps if item.name in kept for need in item.needs if need not in kept]
    return _narrowed(plan, kept, ())


def only(plan: plans.Plan, step: str, succeeded: Mapping[str, StepResult]) -> plans.Plan:
    """`step` alone, with the combinations of its matrix, on the recorded outputs of other steps. Copies that it reads are made if none are
    recorded.

    Raises NotFoundError for an unknown step, ConflictError when it reads an output that no step of `succeeded` has written.
    """
    named = _with_copies(plan, _named(plan, step), succeeded)
    kept = {planned.name for planned in named}
    reads = [part for part in _reads(named) if part.step not in kept]
    missing = [part for part in reads if part.output not in _outputs(succeeded, part.step)]
    if missing:
        listed = ", ".join(sorted({f"{part.output!r} of step {part.step!r}" for part in missing}))
        raise errors.ConflictError(
            f"step {step!r} cannot run alone: it reads {listed}, and no earlier run provides that; "
            f"`fuseml run rerun RUN --only {step}` takes it from a run whose steps have succeeded"
        )
    return _narrowed(plan, kept, _reused(plan, {part.step for part in reads}, succeeded))


def resume(
    plan: plans.Plan, succeeded: Mapping[str, StepResult], *, commit: str | None = None, images: Mapping[str, str] | None = None
) -> plans.Plan:
    """The remaining steps of a run: all but those of `succeeded`, whose outputs are put in.

    A step that succeeded without an output that a later step reads is executed again, and so are the steps that waited for it. `commit`
    replaces the commit of the run, `images` (step -> image) the images, both in the steps that are executed.
    Raises ConflictError when no step remains, or when a replacement concerns none of the remaining steps; NotFoundError for an unknown step.
    """
    again = _again(plan, succeeded)
    if not again:
        raise errors.ConflictError(f"every step of {plan.run} has succeeded, so there is nothing to resume; `fuseml run rerun` repeats it")
    replaced = {planned.name: image for step, image in (images or {}).items() for planned in _images_of(plan, step)}
    for step in images or ():
        if again.isdisjoint(planned.name for planned in _images_of(plan, step)):
            raise errors.ConflictError(f"step {step!r} of {plan.run} has succeeded and is not executed again, so it takes no other image")
    reused = _reused(plan, {step.name for step in plan.steps} - again, succeeded)
    changed = _recommitted(plan, again, commit) if commit else plan
    steps = tuple(
        step.model_copy(update={"image": plans.text(replaced[step.name])}) if step.name in replaced else step for step in changed.steps
    )
    return _narrowed(changed.model_copy(update={"steps": steps}), again, reused)


def reuse(plan: plans.Plan, results: Mapping[str, StepResult]) -> plans.Plan:
    """The plan without the steps of `results`, whose outputs are put in. Every step that one of them waits for must be among them."""
    if not results:
        return plan
    return _narrowed(plan, {step.name for step in plan.steps if step.name not in results}, _reused(plan, results, results))


def partition(plan: plans.Plan, number: int, steps: Collection[str], succeeded: Mapping[str, StepResult]) -> plans.Plan:
    """The plan of a run's execution `number`: `steps`, which need no further approval, on the outputs of `succeeded`.

    A run without approvals is one execution, with the plan as it is. The timeout holds for each execution: an approval may take long.
    Raises PermanentError when a step reads an output that the step of `succeeded` did not write.
    """
    if len(steps) == len(plan.steps) and not any(step.approval for step in plan.steps):
        return plan
    for part in _reads([plan.step(name) for name in steps]):
        if part.step not in steps and part.output not in _outputs(succeeded, part.step):
            raise errors.PermanentError(f"step {part.step!r} finished without writing its output {part.output!r}")
    narrowed = _narrowed(plan, steps, _reused(plan, succeeded, succeeded))
    approved = tuple(step.model_copy(update={"approval": None}) for step in narrowed.steps)
    return narrowed.model_copy(update={"id": identity.execution_id(plan.id, number), "steps": approved})


def _named(plan: plans.Plan, name: str) -> list[plans.StepPlan]:
    """The step of that name and the combinations of its matrix. Raises NotFoundError for an unknown step."""
    return [step for step in plan.steps if name == step.name or _is_combination(step, name)] or [plan.step(name)]


def _with_copies(plan: plans.Plan, named: list[plans.StepPlan], succeeded: Mapping[str, StepResult]) -> list[plans.StepPlan]:
    """The steps, and the conversions of what they read whose outputs are not recorded."""
    wanted = {part.step for part in _reads(named) if part.output not in _outputs(succeeded, part.step)}
    return [*named, *(step for step in plan.steps if step.name in wanted and conversions.is_conversion(step) and step not in named)]


def _images_of(plan: plans.Plan, name: str) -> list[plans.StepPlan]:
    """The steps that run the image of the workflow's step `name`: itself, or the combinations of its matrix."""
    return [step for step in plan.steps if _is_combination(step, name)] or [plan.step(name)]


def _is_combination(step: plans.StepPlan, name: str) -> bool:
    return step.combination is not None and step.combination.step == name


def _outputs(succeeded: Mapping[str, StepResult], step: str) -> Mapping[str, str]:
    return succeeded[step].outputs if step in succeeded else {}


def _reads(steps: Iterable[plans.StepPlan]) -> list[plans.OutputPart]:
    return [part for step in steps for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)]


def _again(plan: plans.Plan, succeeded: Mapping[str, StepResult]) -> set[str]:
    """The steps to execute again when those of `succeeded` need not be."""
    outputs = [part for value in plan.outputs.values() for part in value if isinstance(part, plans.OutputPart)]
    again = {step.name for step in plan.steps if step.name not in succeeded}
    while True:
        left = [step for step in plan.steps if step.name in again]
        more = {part.step for part in (*_reads(left), *outputs) if part.output not in _outputs(succeeded, part.step)}
        more |= {step.name for step in plan.steps if not again.isdisjoint(step.needs)}
        if more <= again:
            return again
        again |= more


def _reused(plan: plans.Plan, names: Collection[str], succeeded: Mapping[str, StepResult]) -> tuple[plans.ReusedStep, ...]:
    return tuple(
        plans.ReusedStep(
            name=step.name,
            run=succeeded[step.name].run,
            executed_as=succeeded[step.name].executed_as if succeeded[step.name].executed_as != step.name else "",
            image=step.image,
            needs=step.needs,
            outputs=dict(succeeded[step.name].outputs),
            combination=step.combination,
        )
        for step in plan.steps
        if step.name in names
    )


def _recommitted(plan: plans.Plan, again: Collection[str], commit: str) -> plans.Plan:
    """The plan with another commit wherever the text of a step to execute holds the old one.

    The name of an image that a reused step has built stays, even when it holds the old commit, and so does a pinned commit.
    """
    executed = [step for step in plan.steps if step.name in again and not any(checkout.pinned for checkout in step.checkouts)]
    before = {checkout.commit for step in executed for checkout in step.checkouts}
    if not before:
        raise errors.ConflictError(f"no remaining step of {plan.run} has a codeset, so there is no commit to replace")
    built = {
        "".join(part.text for part in output.image.name if isinstance(part, plans.TextPart))
        for step in plan.steps
        if step.name not in again
        for output in step.outputs
        if output.image
    }
    # The alternatives are tried in their order at each place, so a name is found before the commit inside it.
    pattern = re.compile("|".join(map(re.escape, [*sorted(filter(None, built), key=len, reverse=True), *before])))

    def moved(part: plans.Part) -> plans.Part:
        if not isinstance(part, plans.TextPart):
            return part
        return plans.TextPart(text=pattern.sub(lambda match: commit if match[0] in before else match[0], part.text))

    def step_moved(step: plans.StepPlan) -> plans.StepPlan:
        checkouts = tuple(checkout.model_copy(update={"commit": commit}) for checkout in step.checkouts)
        return _rewritten(step, moved).model_copy(update={"checkouts": checkouts})

    moving = {step.name for step in executed}
    steps = tuple(step_moved(step) if step.name in moving else step for step in plan.steps)
    return plan.model_copy(
        update={"steps": steps, "outputs": {name: _value(value, moved) for name, value in plan.outputs.items()}},
    )


def _narrowed(plan: plans.Plan, kept: Collection[str], reused: tuple[plans.ReusedStep, ...]) -> plans.Plan:
    """The plan with only the steps `kept`, the outputs of `reused` put in, and those outputs of the run that are still produced."""
    recorded = {step.name: step.outputs for step in reused}
    producers = {output.name: step.name for step in plan.steps for output in step.outputs}

    def substituted(part: plans.Part) -> plans.Part:
        if isinstance(part, plans.OutputPart) and part.step in recorded:
            return plans.TextPart(text=recorded[part.step][part.output])
        return part

    def is_produced(name: str, value: plans.Value) -> bool:
        written = all(
            part.step in kept or part.output in recorded.get(part.step, {}) for part in value if isinstance(part, plans.OutputPart)
        )
        # The output of a step that was reused before has no producer any more: it is text.
        return written and (name not in producers or producers[name] in kept or producers[name] in recorded)

    return plan.model_copy(
        update={
            "steps": tuple(
                _rewritten(step, substituted).model_copy(update={"needs": tuple(need for need in step.needs if need in kept)})
                for step in plan.steps
                if step.name in kept
            ),
            "reused": (*plan.reused, *reused),
            "outputs": {name: _value(value, substituted) for name, value in plan.outputs.items() if is_produced(name, value)},
            "bindings": tuple(binding for binding in plan.bindings if binding.step in kept),
        }
    )


_Change = Callable[[plans.Part], plans.Part]


def _rewritten(step: plans.StepPlan, change: _Change) -> plans.StepPlan:
    """The step with every part of every value changed."""

    def output(item: plans.Output) -> plans.Output:
        if item.image is None:
            return item
        image = plans.ImageBuild(name=_value(item.image.name, change), dockerfile=_value(item.image.dockerfile, change))
        return item.model_copy(update={"image": image})

    def condition(when: plans.Condition) -> plans.Condition:
        return when.model_copy(
            update={"input": _value(when.input, change), "values": tuple(_value(value, change) for value in when.values)}
        )

    def approval(planned: plans.Approval) -> plans.Approval:
        return planned.model_copy(
            update={"message": _value(planned.message, change), "when": tuple(condition(when) for when in planned.when)}
        )

    def fetch(item: plans.Fetch) -> plans.Fetch:
        return item.model_copy(
            update={"address": _value(item.address, change), "uri": _value(item.uri, change), "stored": _value(item.stored, change)}
        )

    return step.model_copy(
        update={
            "image": _value(step.image, change),
            "command": tuple(_value(value, change) for value in step.command),
            "args": tuple(_value(value, change) for value in step.args),
            "script": _value(step.script, change),
            "variables": tuple(item.model_copy(update={"value": _value(item.value, change)}) for item in step.variables),
            "fetches": tuple(map(fetch, step.fetches)),
            "outputs": tuple(output(item) for item in step.outputs),
            "when": tuple(condition(when) for when in step.when),
            "approval": approval(step.approval) if step.approval else None,
        }
    )


def _value(value: plans.Value, change: _Change) -> plans.Value:
    """The changed value in the normal form of planning: no empty text, and no two texts side by side."""
    parts: list[plans.Part] = []
    for part in map(change, value):
        last = parts[-1] if parts else None
        if isinstance(part, plans.TextPart) and isinstance(last, plans.TextPart):
            parts[-1] = plans.TextPart(text=last.text + part.text)
        elif part != plans.TextPart(text=""):
            parts.append(part)
    return tuple(parts)
