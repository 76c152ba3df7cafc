"""Plans made from plans: a run repeated, taken up where it failed, or a part of it. A question that a step asks is asked again.

What comes out is a plan like any other, so that every engine runs it: the recorded outputs of steps that are not executed again stand
in the values of the others as text, and `Plan.reused` tells where they came from. Secrets stay `SecretPart`s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fuseml.domain import errors, plans
from fuseml.domain.plans import identity


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that has succeeded: the run that executed it, and what it put out."""

    run: str
    outputs: Mapping[str, str] = field(default_factory=dict)


def rename(planned: plans.Plan, run_id: str, name: str) -> plans.Plan:
    """The same plan under another identity. Besides id and name only the variable that tells steps the run's name changes."""
    before, after = plans.text(planned.run), plans.text(name)

    def renamed(step: plans.StepPlan) -> plans.StepPlan:
        variables = (
            # A workflow may set the variable itself; what it says stays.
            variable.model_copy(update={"value": after}) if variable.name == plans.RUN_VARIABLE and variable.value == before else variable
            for variable in step.variables
        )
        return step.model_copy(update={"variables": tuple(variables)})

    return planned.model_copy(update={"id": run_id, "run": name, "steps": tuple(renamed(step) for step in planned.steps)})


def up_to(planned: plans.Plan, step: str) -> plans.Plan:
    """`step` and what it waits for, directly or not. Raises NotFoundError when there is no such step."""
    kept: set[str] = set()
    wanted = [planned.step(step).name]
    while wanted:
        kept.add(wanted.pop())
        wanted += [need for item in planned.steps if item.name in kept for need in item.needs if need not in kept]
    return _narrowed(planned, kept, ())


def only(planned: plans.Plan, step: str, succeeded: Mapping[str, StepResult]) -> plans.Plan:
    """`step` alone, on outputs that other steps have put out before.

    Raises NotFoundError when there is no such step, ConflictError when it reads an output that no step of `succeeded` has written.
    """
    missing = [part for part in _reads([planned.step(step)]) if part.output not in _outputs(succeeded, part.step)]
    if missing:
        listed = ", ".join(sorted({f"{part.output!r} of step {part.step!r}" for part in missing}))
        raise errors.ConflictError(
            f"step {step!r} cannot run alone: it reads {listed}, and there is no run to take that from; "
            f"`fuseml run rerun RUN --only {step}` takes it from a run whose steps have succeeded"
        )
    read = {part.step for part in _reads([planned.step(step)])}
    return _narrowed(planned, {step}, _reused(planned, read, succeeded))


def resume(
    planned: plans.Plan, succeeded: Mapping[str, StepResult], *, commit: str | None = None, images: Mapping[str, str] | None = None
) -> plans.Plan:
    """What is left to do of a run: its steps but those of `succeeded`, whose outputs are put in.

    A step that succeeded without writing what a later one reads is executed again, and so is what waited for it. `commit` replaces the
    one that the run was locked to, `images` (step -> image) the images, both in the steps that are executed.
    Raises ConflictError when nothing is left or a change does not reach a step that is; NotFoundError for an unknown step.
    """
    again = _again(planned, succeeded)
    if not again:
        raise errors.ConflictError(
            f"every step of {planned.run} has succeeded, so there is nothing to resume; `fuseml run rerun` repeats it"
        )
    for step in images or ():
        if planned.step(step).name not in again:
            raise errors.ConflictError(
                f"step {step!r} of {planned.run} has succeeded and is not executed again, so it takes no other image"
            )
    reused = _reused(planned, {step.name for step in planned.steps} - again, succeeded)
    changed = _recommitted(planned, again, commit) if commit else planned
    steps = tuple(
        step.model_copy(update={"image": plans.text(images[step.name])}) if images and step.name in images else step
        for step in changed.steps
    )
    return _narrowed(changed.model_copy(update={"steps": steps}), again, reused)


def reuse(planned: plans.Plan, found: Mapping[str, StepResult]) -> plans.Plan:
    """The plan without the steps of `found`, on what they have put out. Every step that one of them waits for must be among them."""
    if not found:
        return planned
    return _narrowed(planned, {step.name for step in planned.steps if step.name not in found}, _reused(planned, found, found))


def partition(planned: plans.Plan, number: int, steps: Collection[str], succeeded: Mapping[str, StepResult]) -> plans.Plan:
    """What an engine gets of a run as its execution `number`: `steps`, which nobody need approve any more, on what others have put out.

    A run that asks nobody is one execution, and its plan is handed over as it is. The timeout is that of each execution: people take
    their time. Raises PermanentError when a step reads an output that the step of `succeeded` did not write.
    """
    if len(steps) == len(planned.steps) and not any(step.approval for step in planned.steps):
        return planned
    for part in _reads([planned.step(name) for name in steps]):
        if part.step not in steps and part.output not in _outputs(succeeded, part.step):
            raise errors.PermanentError(f"step {part.step!r} finished without writing its output {part.output!r}")
    narrowed = _narrowed(planned, steps, _reused(planned, succeeded, succeeded))
    approved = tuple(step.model_copy(update={"approval": None}) for step in narrowed.steps)
    return narrowed.model_copy(update={"id": identity.execution_id(planned.id, number), "steps": approved})


def _outputs(succeeded: Mapping[str, StepResult], step: str) -> Mapping[str, str]:
    return succeeded[step].outputs if step in succeeded else {}


def _reads(steps: Iterable[plans.StepPlan]) -> list[plans.OutputPart]:
    return [part for step in steps for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)]


def _again(planned: plans.Plan, succeeded: Mapping[str, StepResult]) -> set[str]:
    promised = [part for value in planned.outputs.values() for part in value if isinstance(part, plans.OutputPart)]
    again = {step.name for step in planned.steps if step.name not in succeeded}
    while True:
        left = [step for step in planned.steps if step.name in again]
        more = {part.step for part in (*_reads(left), *promised) if part.output not in _outputs(succeeded, part.step)}
        more |= {step.name for step in planned.steps if not again.isdisjoint(step.needs)}
        if more <= again:
            return again
        again |= more


def _reused(planned: plans.Plan, names: Collection[str], succeeded: Mapping[str, StepResult]) -> tuple[plans.ReusedStep, ...]:
    return tuple(
        plans.ReusedStep(
            name=step.name, run=succeeded[step.name].run, image=step.image, needs=step.needs, outputs=dict(succeeded[step.name].outputs)
        )
        for step in planned.steps
        if step.name in names
    )


def _recommitted(planned: plans.Plan, again: Collection[str], commit: str) -> plans.Plan:
    """The plan with another commit wherever the text of a step that is executed holds the old one.

    An image that another step has built already is named after the old commit, perhaps; that name stays.
    """
    executed = [step for step in planned.steps if step.name in again]
    before = {checkout.commit for step in executed for checkout in step.checkouts}
    if not before:
        raise errors.ConflictError(f"none of the steps that are left of {planned.run} has a codeset, so they take no other commit")
    built = {
        "".join(part.text for part in output.image.name if isinstance(part, plans.TextPart))
        for step in planned.steps
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

    steps = tuple(step_moved(step) if step.name in again else step for step in planned.steps)
    return planned.model_copy(
        update={"steps": steps, "outputs": {name: _value(value, moved) for name, value in planned.outputs.items()}},
    )


def _narrowed(planned: plans.Plan, kept: Collection[str], reused: tuple[plans.ReusedStep, ...]) -> plans.Plan:
    """Only the steps `kept`, with the outputs of `reused` put in, and those outputs of the run that are still made."""
    recorded = {step.name: step.outputs for step in reused}
    makers = {output.name: step.name for step in planned.steps for output in step.outputs}

    def known(part: plans.Part) -> plans.Part:
        if isinstance(part, plans.OutputPart) and part.step in recorded:
            return plans.TextPart(text=recorded[part.step][part.output])
        return part

    def is_made(name: str, value: plans.Value) -> bool:
        written = all(
            part.step in kept or part.output in recorded.get(part.step, {}) for part in value if isinstance(part, plans.OutputPart)
        )
        # The output of a step that was reused before has no maker any more: it is text.
        return written and (name not in makers or makers[name] in kept or makers[name] in recorded)

    return planned.model_copy(
        update={
            "steps": tuple(
                _rewritten(step, known).model_copy(update={"needs": tuple(need for need in step.needs if need in kept)})
                for step in planned.steps
                if step.name in kept
            ),
            "reused": (*planned.reused, *reused),
            "outputs": {name: _value(value, known) for name, value in planned.outputs.items() if is_made(name, value)},
            "bindings": tuple(binding for binding in planned.bindings if binding.step in kept),
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

    return step.model_copy(
        update={
            "image": _value(step.image, change),
            "command": tuple(_value(value, change) for value in step.command),
            "args": tuple(_value(value, change) for value in step.args),
            "script": _value(step.script, change),
            "variables": tuple(item.model_copy(update={"value": _value(item.value, change)}) for item in step.variables),
            "outputs": tuple(output(item) for item in step.outputs),
            "when": tuple(condition(when) for when in step.when),
        }
    )


def _value(value: plans.Value, change: _Change) -> plans.Value:
    """The changed value, in the form that planning gives values: no empty text, and no two texts side by side."""
    parts: list[plans.Part] = []
    for part in map(change, value):
        last = parts[-1] if parts else None
        if isinstance(part, plans.TextPart) and isinstance(last, plans.TextPart):
            parts[-1] = plans.TextPart(text=last.text + part.text)
        elif part != plans.TextPart(text=""):
            parts.append(part)
    return tuple(parts)
