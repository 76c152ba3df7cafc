"""The texts of a step that may hold expressions, their scopes, and the order of steps.

Rules, lint and plan of a workflow read the same texts in the same scopes; only this module lists them.
"""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from fuseml.domain import errors
from fuseml.domain.documents import document, expression
from fuseml.domain.workflows import matrix
from fuseml.domain.workflows.models import CodesetMount, Input, Step, StepInput, When, Workflow

Place = Literal["value", "plain", "fixed"]
"""The place of a text. `value`: only the environment of the step has it, so secrets are allowed. `plain`: other people can read it, so they
are not. `fixed`: the run needs its value at the start, so outputs are not allowed either."""


class Use(NamedTuple):
    """A text of a step that may hold expressions, with its path within the step and its place."""

    path: document.Path
    text: str
    place: Place


def repetitions(inputs: Sequence[Input | StepInput]) -> frozenset[int]:
    """The positions of inputs that repeat an earlier one of the same name with the same value: harmless, and present in published workflows.

    Codesets, artifacts and files have an effect for each.
    """
    first: dict[str, Input | StepInput] = {}
    found = set()
    for index, item in enumerate([*inputs]):
        if isinstance(item, Input) or (item.value is not None and not item.file):
            known = first.setdefault(item.name, item)
            if known is not item and known == item:
                found.add(index)
    return frozenset(found)


def texts(step: Step) -> Iterator[Use]:
    """Every text of a step that may hold expressions."""
    yield Use(("image",), step.image, "plain")
    for index, item in enumerate(step.inputs):
        if item.value is not None:
            yield Use(("inputs", index, "value"), item.value, "fixed" if item.file else "value")
        if item.codeset:
            yield Use(("inputs", index, "codeset", "path"), item.codeset.path, "fixed")
            yield Use(("inputs", index, "codeset", "folder"), item.codeset.folder, "fixed")
        if item.artifact:
            yield Use(("inputs", index, "artifact", "address"), item.artifact.address, "plain")
    for index, output in enumerate(step.outputs):
        if output.image:
            yield Use(("outputs", index, "image", "name"), output.image.name, "plain")
            yield Use(("outputs", index, "image", "dockerfile"), output.image.dockerfile, "plain")
        if output.artifact:
            yield Use(("outputs", index, "artifact", "path"), output.artifact.path, "fixed")
            yield Use(("outputs", index, "artifact", "name"), output.artifact.name, "fixed")
    for index, variable in enumerate(step.env):
        yield Use(("env", index, "value"), variable.value, "value")
    for kind, quantities in (("requests", step.resources.requests), ("limits", step.resources.limits)):
        for resource, quantity in quantities.items():
            yield Use(("resources", kind, resource), quantity, "fixed")
    for name, values in (step.matrix.values if step.matrix else {}).items():
        for index, text in enumerate(values):
            yield Use(("matrix", "values", name, index), text, "fixed")
    yield from _conditions((), step.when)
    for kind, parts in (("command", step.command), ("args", step.args)):
        for index, text in enumerate(parts):
            yield Use((kind, index), text, "plain")
    yield Use(("script",), step.script, "plain")
    if step.approval:
        yield Use(("approval", "message"), step.approval.message, "plain")
        yield from _conditions(("approval",), step.approval.when)


def _conditions(path: document.Path, conditions: Sequence[When]) -> Iterator[Use]:
    for index, condition in enumerate(conditions):
        yield Use((*path, "when", index, "input"), condition.input, "plain")
        for number, text in enumerate(condition.values):
            yield Use((*path, "when", index, "values", number), text, "plain")


def scopes(workflow: Workflow) -> Iterator[tuple[Step, expression.Scope]]:
    """Each step with the names that its texts may refer to."""
    inputs = {item.name: item.is_codeset for item in workflow.inputs}
    # References to the outputs and selectors of a runnable that is not put in yet cannot be checked.
    outputs = {
        step.name: [*(output.name for output in step.outputs), *([expression.HOLE] if step.is_open else [])] for step in workflow.steps
    }
    for step in workflow.steps:
        if step.matrix and step.matrix.best:
            outputs[step.name].append(matrix.BEST)
    repeated = {step.name for step in workflow.steps if step.matrix and not step.matrix.best}
    for step in workflow.steps:
        selectors = [*(requirement.name for requirement in step.extensions), *([expression.HOLE] if step.is_open else [])]
        yield step, expression.Scope(inputs, outputs, selectors, step.matrix.values if step.matrix else (), repeated)


def mounted_input(mount: CodesetMount, inputs: Mapping[str, bool]) -> str:
    """The name of the input in a step's codeset: from `{{ inputs.NAME }}`, `inputs.NAME` or the plain name.

    Raises InvalidError for any other expression.
    """
    nodes = expression.parse(mount.name, lambda reference: isinstance(reference, expression.InputReference) and reference.name in inputs)
    match nodes:
        case [expression.InputReference(name, None)]:
            return name
        case [expression.Literal(name)]:
            return name
    raise errors.InvalidError(f"{mount.name!r} is not a codeset; write the name of a codeset input")


def variable(input_name: str) -> str:
    """The environment variable of a step's input (step contract)."""
    return "FUSEML_" + input_name.upper().replace("-", "_")


def variables(item: StepInput) -> list[str]:
    """All variables that the step has of an input: those of an artifact name its path or URI, and its address."""
    name = variable(item.name)
    if item.artifact is None:
        return [name]
    return [name, f"{name}_URI" if item.artifact.access == "reference" else f"{name}_ADDRESS"]


def ordered(waits: Mapping[str, Sequence[str]]) -> list[str]:
    """A topological order of the steps: each after those it waits for, otherwise in the order of `waits`.

    Raises graphlib.CycleError, whose second argument lists a cycle, each step before the one that waits for it.
    """
    names = list(waits)
    index = {name: number for number, name in enumerate(names)}
    if all(index[other] < number for number, others in enumerate(waits.values()) for other in others):
        return names  # the usual case
    sorter = graphlib.TopologicalSorter(waits)
    sorter.prepare()
    ready: list[int] = []
    order: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, index[name])
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
    return order
