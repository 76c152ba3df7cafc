"""The matrix of a step: the step runs once for each combination of the values, and the best combination gives it its outputs.

The combination number N of the step `trainer` is the step `trainer-N` of a run; with `best`, the step `trainer` of the run ranks them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import pydantic

from fuseml.domain.documents import document
from fuseml.domain.workflows.fields import Items, Scalar

MAX_COMBINATIONS = 64

METRICS = "metrics"
"""The output of each combination with its metrics, a JSON object."""

BEST = "best"
"""The output of a ranked step with the name of its best combination."""


class Best(document.Model):
    """The outputs of the step are those of the combination with the least (min) or greatest (max) value of the metric."""

    metric: Annotated[document.Text, pydantic.Field(description="A metric in the output `metrics`: rmse, accuracy.")]
    goal: Literal["min", "max"]


class Matrix(document.Model):
    """The step runs once for each combination of the values, which its other fields read as {{ matrix.NAME }}."""

    values: Annotated[
        dict[str, Items[Scalar]],
        pydantic.Field(description=f"Lists of values by name, at most {MAX_COMBINATIONS} combinations; a value may refer to inputs."),
    ] = {}
    best: Annotated[Best | None, pydantic.Field(description="Other steps read the outputs of the step only if one is the best.")] = None


def count(values: Mapping[str, Sequence[str]]) -> int:
    """The number of combinations."""
    return math.prod(map(len, values.values()))


def combinations(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination, in the order of the document: the values of the last name change first."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
