"""The consistency rules of one step with a matrix. Each violation is a path within the step and a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuseml.domain.documents import document, expression
from fuseml.domain.workflows import matrix
from fuseml.domain.workflows.models import Step

Violation = tuple[document.Path, str]

_LONGEST_NAME = 63 - len(f"-{matrix.MAX_COMBINATIONS}")
"""Characters of the name of a step whose combinations have names of at most 63."""


def violations(step: Step) -> Iterator[Violation]:
    """All violations of a step with a matrix; none for any other step."""
    if step.matrix is None:
        return
    path: document.Path = ("matrix", "values")
    if not step.matrix.values:
        yield path, "a matrix needs at least one name with its values, such as alpha: [0.1, 0.5]"
    for name, values in step.matrix.values.items():
        yield from _values((*path, name), name, values)
    number = matrix.count(step.matrix.values)
    if number > matrix.MAX_COMBINATIONS:
        factors = " x ".join(f"{len(values)} of {name!r}" for name, values in step.matrix.values.items())
        yield path, f"a matrix has at most {matrix.MAX_COMBINATIONS} combinations; this one has {number} ({factors})"
    if len(step.name) > _LONGEST_NAME:
        yield ("name",), f"the name of a step with a matrix has at most {_LONGEST_NAME} characters: combinations are named NAME-1, NAME-2"
    if step.approval:
        yield ("approval",), "a step with a matrix asks for no approval; give the approval to a step after it"
    for index, output in enumerate(step.outputs):
        if output.image:
            yield ("outputs", index, "image"), "a step with a matrix builds no image: its combinations would all build this one"
    if step.matrix.best:
        yield from _best(step, step.matrix.best)


def _values(path: document.Path, name: str, values: Sequence[str]) -> Iterator[Violation]:
    if not document.IDENTIFIER.fullmatch(name) or len(name) > 100:
        yield path, f"{name[:100]!r} is not a valid name: letters, digits, '-' and '_', at most 100, not beginning with '-'"
    if not values:
        yield path, f"{name!r} has no value; list at least one"
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value != expression.HOLE and first.setdefault(value, index) != index:
            yield (*path, index), f"the value {value[:100]!r} is repeated; remove one"


def _best(step: Step, best: matrix.Best) -> Iterator[Violation]:
    outputs = [output.name for output in step.outputs]
    if not best.metric.strip() or expression.holds_expression(best.metric):
        yield ("matrix", "best", "metric"), "the metric is plain text, the name of a metric such as rmse"
    if matrix.METRICS not in outputs and expression.HOLE not in outputs:
        message = f"combinations are compared by their output {matrix.METRICS!r}, a JSON object; add it to the outputs of the step"
        yield ("matrix", "best"), message
    if matrix.BEST in outputs:
        message = f"the output {matrix.BEST!r} of a step with a matrix is the name of its best combination; rename this one"
        yield ("outputs", outputs.index(matrix.BEST), "name"), message
