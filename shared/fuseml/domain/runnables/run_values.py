"""The values that the inputs of runnables have in a run, checked by type before the run begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from fuseml.domain import errors
from fuseml.domain.documents import document, expression
from fuseml.domain.runnables import values
from fuseml.domain.runnables.descriptor import Runnable
from fuseml.domain.workflows import Step, Workflow, parameters, references

_MOST_COMBINATIONS = 64


def problems(workflow: Workflow, runnables: Mapping[str, Runnable], inputs: Mapping[str, str]) -> list[errors.Problem]:
    """The values that are none of their inputs' types. `runnables` is step -> runnable, `inputs` are the text inputs of the run.

    Values that other steps or tools give are not known yet. Pairs of the input of the type `parameters` are values of the inputs of their names.
    """
    holder = parameters.holder(workflow)
    found: list[errors.Problem] = []
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        runnable = runnables.get(step.name)
        if runnable is None:
            continue
        for number, item in enumerate(step.inputs):
            path = ("steps", index, "inputs", number, "value")
            for name, text in _values(step, scope, item.name, item.value, inputs, holder):
                declared = runnable.input(name)
                fault = values.fault(declared, text) if declared and (text or declared.needs_value) else ""
                if fault:
                    message = f"the input {name!r} of the runnable {runnable.name} {runnable.version}: {fault}"
                    found.append(errors.Problem(document.render_path(path), message))
    return list(dict.fromkeys(found))


def _values(
    step: Step, scope: expression.Scope, name: str, text: str | None, inputs: Mapping[str, str], holder: str | None
) -> Iterator[tuple[str, str]]:
    """Name and value of a step's input, once for each combination of its matrix, and of the parameters that it takes."""
    if text is None:
        return
    nodes = expression.parse(text, scope.knows)
    used = [node.name for node in nodes if isinstance(node, expression.MatrixReference)]
    listed = (
        {key: [_evaluated(expression.parse(value, scope.knows), inputs, {}) for value in step.matrix.values[key]] for key in used}
        if step.matrix
        else {}
    )
    for chosen in itertools.islice(itertools.product(*listed.values()), _MOST_COMBINATIONS):
        value = _evaluated(nodes, inputs, dict(zip(listed, (item or "" for item in chosen), strict=True)))
        if value is None:
            continue
        yield name, value
        if holder is not None and any(isinstance(node, expression.InputReference) and node.name == holder for node in nodes):
            yield from parameters.parse(value).items()


def _evaluated(nodes: tuple[expression.Node, ...], inputs: Mapping[str, str], matrix: Mapping[str, str]) -> str | None:
    """The text of the nodes; None if it is not known before the run."""
    pieces: list[str] = []
    for node in nodes:
        match node:
            case expression.Literal(text):
                pieces.append(text)
            case expression.InputReference(name, None) if name in inputs:
                pieces.append(inputs[name])
            case expression.MatrixReference(name) if name in matrix:
                pieces.append(matrix[name])
            case _:
                return None
    return "".join(pieces)
