"""The types of values that are texts, `integer`, `number` and `boolean`, and the texts that they admit.

The module starts fast, because a program in the pod of each step loads it.
"""

from __future__ import annotations

import re

TYPES = ("integer", "number", "boolean")
"""The types whose texts are checked; any other text is free."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGERS = (-(1 << 63), (1 << 63) - 1)
_SHOWN = 40


def fault(type_: str, text: str) -> str:
    """The reason for which the text is no value of the type; empty if it is one, and for other types."""
    shown = repr(text[:_SHOWN])
    match type_:
        case "integer" if not _INTEGER.fullmatch(text):
            return f"{shown} is not an integer, such as 8 or -3"
        case "integer" if not _INTEGERS[0] <= int(text) <= _INTEGERS[1]:
            return f"{shown} is not an integer of 64 bits"
        case "number" if not _NUMBER.fullmatch(text) or float(text) in (float("inf"), float("-inf")):
            return f"{shown} is not a number, such as 8, -0.5 or 1e-3"
        case "boolean" if text not in ("true", "false"):
            return f"{shown} is not a boolean; write true or false"
    return ""
