"""The step that ranks the combinations of a matrix: it emits the outputs of the best one under the name of the workflow's step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fuseml.domain import plans
from fuseml.domain.workflows import matrix

RANKER = "ghcr.io/fuseml/ranker:v1"
"""The image of the built-in step `fuseml.steps.ranker`."""


def ranks(plan: plans.Plan, step: str) -> bool:
    """Whether the step ranks combinations, so that its outputs name artifacts that another step has made."""
    combined = [item.combination for item in plan.steps] + [item.combination for item in plan.reused]
    return any(item is not None and item.step == step for item in combined)


def ranker(
    name: str, best: plans.Best, combinations: Mapping[str, Mapping[str, str]], outputs: Sequence[str], cache: plans.Caching | None
) -> plans.StepPlan:
    """The step `name` after its `combinations` (step -> values), each of which writes the `outputs`."""
    fixed = {
        "FUSEML_METRIC": best.metric,
        "FUSEML_GOAL": best.goal,
        "FUSEML_COMBINATIONS": json.dumps(combinations),
        "FUSEML_OUTPUTS": json.dumps(outputs),
    }
    read = {
        f"FUSEML_OUTPUT_{number}_{index}": (plans.OutputPart(step=step, output=output),)
        for number, step in enumerate(combinations, 1)
        for index, output in enumerate(outputs, 1)
    }
    values = {**{variable: plans.text(value) for variable, value in fixed.items()}, **read}
    return plans.StepPlan(
        name=name,
        image=plans.text(RANKER),
        variables=tuple(plans.Variable(name=variable, value=value) for variable, value in values.items()),
        outputs=tuple(plans.Output(name=output) for output in (*outputs, matrix.BEST)),
        needs=tuple(combinations),
        cache=cache,
    )
