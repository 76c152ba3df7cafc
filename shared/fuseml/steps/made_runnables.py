"""The runnables that the builder makes of a codeset: its trainer, with the parameters of its entry point, and its predictor."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from fuseml.steps import mlproject, sdk, training

_MOST = 1000
"""Bytes of the description: the outputs of a step are short."""
_LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
# Inputs of the trainer itself; a parameter of such a name is given in its input `parameters`.
_OF_TRAINER = (
    "codeset",
    "image",
    "entrypoint",
    "parameters",
    "model",
    "metric",
    "data",
    "mlflow-experiment",
    "mlflow-entrypoint",
    "mlflow-artifact-path",
)


def of(folder: Path, image: str) -> str:
    """The JSON list of the codeset's runnables in the environment `image`; empty where the codeset has no name or no program."""
    codeset = sdk.context().codeset
    if not codeset:
        return "[]"
    if len(codeset) + len("-predictor") > _LONGEST_NAME:
        sdk.say(f"note: no runnables are registered: the name {codeset!r} of the codeset is too long for theirs")
        return "[]"
    try:
        chosen = training.choose(folder, training.named_entry_point())
    except sdk.StepError as error:
        sdk.say(f"note: no runnables are registered: {error}")
        return "[]"
    text = _text(codeset, image, chosen.entry_point.parameters)
    if len(text) + text.count('"') > _MOST:
        sdk.say(
            f"note: the parameters of {chosen.entry_point.name} are too many to register; a workflow gives them in the input 'parameters'"
        )
        text = _text(codeset, image, {})
    return text


def _text(codeset: str, image: str, parameters: Mapping[str, mlproject.Parameter]) -> str:
    inputs: list[dict[str, object]] = [{"name": "image", "default": image}]
    variables = {sdk.variable(name) for name in _OF_TRAINER}
    for parameter in parameters.values():
        if _NAME.fullmatch(parameter.name) and sdk.variable(parameter.name) not in variables:
            variables.add(sdk.variable(parameter.name))
            inputs.append(_input(parameter))
    made = [
        {"name": f"{codeset}-trainer", "like": "trainer", "inputs": inputs},
        {"name": f"{codeset}-predictor", "like": "predictor", "inputs": [{"name": "runtime", "default": image}]},
    ]
    return json.dumps(made, separators=(",", ":"))


def _input(parameter: mlproject.Parameter) -> dict[str, object]:
    """The input of a parameter. Without a default it is optional here: a run may give it in `parameters`, and the trainer checks."""
    number = parameter.type == "float"
    described: dict[str, object] = {"name": parameter.name, **({"type": "number"} if number else {})}
    default = parameter.default
    if default is None or (number and not _is_number(default)):
        return {**described, "optional": True}
    # A default in braces would be an expression of the workflow language.
    return {**described, "optional": True} if "{{" in default else {**described, "default": default}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and re.fullmatch(r"[0-9.eE+-]+", text) is not None
    except ValueError:
        return False
