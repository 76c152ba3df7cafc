"""Fields of a tool's own document, merged over those that FuseML sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(document: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the options: objects are merged field by field, all other values replaced."""
    result = dict(document)
    for name, value in options.items():
        former = result.get(name)
        result[name] = merged(former, value) if isinstance(former, Mapping) and isinstance(value, Mapping) else value
    return result
