"""The step that ranks the combinations of a matrix: it emits the outputs of the best one under the name of the workflow's step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fuseml.domain import outputs as limits
from fuseml.domain import plans
from fuseml.domain.workflows import matrix

RANKER = "ghcr.io/fuseml/ranker:v1"
"""The image of the built-in step `fuseml.steps.ranker`."""

_LONGEST_VALUE = 100
_LARGEST_TABLE = 100_000
"""Bytes of the values in the ranker's table: Linux starts no process with a variable of more than 128 KiB."""


def output_limit(step: plans.StepPlan) -> int:
    """Bytes for the outputs of a step together. A ranked combination leaves room for its name: the ranker emits it with these outputs."""
    if step.combination is None or step.combination.best is None:
        return limits.LIMIT
    return limits.LIMIT - limits.size({matrix.BEST: step.name.encode()})


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
        "FUSEML_COMBINATIONS": _table(combinations),
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


def _table(combinations: Mapping[str, Mapping[str, str]]) -> str:
    """The values of the combinations as JSON, for people only: long values are cut, and values that all combinations share may be left out."""
    shown = {name: {title: _cut(value) for title, value in values.items()} for name, values in combinations.items()}
    text = json.dumps(shown)
    if len(text) <= _LARGEST_TABLE:
        return text
    # At most six: each doubles the number of combinations at least.
    titles = next(iter(combinations.values()), {})
    different = {title for title in titles if len({values[title] for values in combinations.values()}) > 1}
    return json.dumps({name: {title: value for title, value in values.items() if title in different} for name, values in shown.items()})


def _cut(value: str) -> str:
    """The value with at most 100 characters of JSON."""
    if len(value) <= _LONGEST_VALUE and _width(value) <= _LONGEST_VALUE:
        return value
    kept, room = "", _LONGEST_VALUE - _width("…")
    for character in value:
        room -= _width(character)
        if room < 0:
            break
        kept += character
    return f"{kept}…"


def _width(text: str) -> int:
    return len(json.dumps(text)) - 2
