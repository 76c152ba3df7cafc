"""Quantities of Kubernetes as numbers, for tools that take numbers."""

from __future__ import annotations

import re

from fuseml.steps import sdk

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def number(name: str, text: str) -> float:
    """The quantity as a number: `500m` is 0.5, `2Gi` is 2147483648. Raises StepError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise sdk.StepError(f"the input '{name}' is not a quantity such as 500m, 2 or 4Gi: '{text[:50]}'")
    value, unit = float(match[1]), match[2] or ""
    if unit == "m":
        return value / 1000
    return value * float((1024 if unit.endswith("i") else 1000) ** _POWERS[unit.removesuffix("i")])
