"""Names of steps: those that a document may give, and those of steps that no document names."""

from __future__ import annotations

import re
from collections.abc import Container

RULE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""What the whole name of a step matches: it is a label of Kubernetes."""

_LONGEST = 63


def of(text: str) -> str:
    """The text as the name of a step: lower-case letters, digits and `-`; the end of a long one is left out."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST].strip("-") or "step"


def free(name: str, taken: Container[str]) -> str:
    """The name, or the first one with a number that is not taken."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        suffix = f"-{number}"
        candidate = name[: _LONGEST - len(suffix)].rstrip("-") + suffix
    return candidate
