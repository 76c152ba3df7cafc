"""Values of typed inputs and outputs: text, checked by type, the list of legal values, and bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from fuseml.domain.documents import document

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGERS = (-(1 << 63), (1 << 63) - 1)
_SHOWN = 40


class Typed(Protocol):
    """The input of a runnable."""

    @property
    def type(self) -> str: ...

    @property
    def values(self) -> Sequence[str]: ...

    @property
    def minimum(self) -> float | None: ...

    @property
    def maximum(self) -> float | None: ...


def fault(item: Typed, text: str) -> str:
    """The reason for which the text is no value of the input; empty if it is one."""
    reason = fault_of_type(item.type, text)
    if reason:
        return reason
    if item.values and text not in item.values:
        near = document.nearest(text, list(item.values))
        listed = ", ".join(item.values[:10]) + (", ..." if len(item.values) > 10 else "")
        return f"{text[:_SHOWN]!r} is not one of {listed}" + (f"; did you mean {near!r}?" if near else "")
    return _out_of_bounds(item, text) if item.type in ("integer", "number") else ""


def fault_of_type(type_: str, text: str) -> str:
    """The reason for which the text is no value of the type; empty if it is one. Texts of artifacts are checked elsewhere: they are addresses."""
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


def _out_of_bounds(item: Typed, text: str) -> str:
    number: int | float = int(text) if item.type == "integer" else float(text)
    if item.minimum is not None and number < item.minimum:
        return f"{text[:_SHOWN]} is less than the minimum, {item.minimum:g}"
    if item.maximum is not None and number > item.maximum:
        return f"{text[:_SHOWN]} is greater than the maximum, {item.maximum:g}"
    return ""
