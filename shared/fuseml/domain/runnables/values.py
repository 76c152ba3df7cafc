"""Values of typed inputs and outputs: text, checked by type, the list of legal values, and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fuseml.domain import scalars
from fuseml.domain.documents import document

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
    reason = scalars.fault(item.type, text)
    if reason:
        return reason
    if item.values and text not in item.values:
        near = document.nearest(text, list(item.values))
        listed = ", ".join(item.values[:10]) + (", ..." if len(item.values) > 10 else "")
        return f"{text[:_SHOWN]!r} is not one of {listed}" + (f"; did you mean {near!r}?" if near else "")
    return _out_of_bounds(item, text) if item.type in ("integer", "number") else ""


def _out_of_bounds(item: Typed, text: str) -> str:
    number: int | float = int(text) if item.type == "integer" else float(text)
    if item.minimum is not None and number < item.minimum:
        return f"{text[:_SHOWN]} is less than the minimum, {item.minimum}"
    if item.maximum is not None and number > item.maximum:
        return f"{text[:_SHOWN]} is greater than the maximum, {item.maximum}"
    return ""
