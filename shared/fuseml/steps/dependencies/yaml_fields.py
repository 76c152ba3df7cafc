"""Typed fields of the YAML files that describe environments."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.steps import sdk


def items(data: Mapping[str, object], key: str, parent: str) -> list[object]:
    """The list at `key`, empty if it is missing. Raises StepError naming `parent` and `key`."""
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise sdk.StepError(f"{parent}: {key}: must be a list")
    return value


def line(item: object, key: str) -> str:
    """The item as text. Raises StepError naming `key`."""
    if not isinstance(item, str):
        raise sdk.StepError(f"{key}: '{item}' must be text")
    return item
