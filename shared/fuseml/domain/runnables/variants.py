"""Runnables that builders make: descriptors without a version, which may begin `like` a built-in runnable.

A builder reports them in its output `runnables`, a JSON list, because the output of a step is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.domain import errors
from fuseml.domain.documents import document, strict_json
from fuseml.domain.runnables import builtin, descriptor
from fuseml.domain.runnables.descriptor import Runnable

OUTPUT = "runnables"
"""The output of a step that registers runnables."""

FIRST = "1.0.0"
"""The version of the first one of a name."""

_MOST = 20


def read(text: str) -> list[Runnable]:
    """The runnables in an output, with `FIRST` as their version. Raises InvalidError."""
    return [runnable(item) for item in listed(text)]


def listed(text: str) -> list[dict[str, Any]]:
    """The documents in an output. Raises InvalidError."""
    try:
        found = strict_json.parse((text or "[]").encode())
    except (ValueError, RecursionError) as error:
        raise errors.InvalidError(f"the output {OUTPUT!r} is not JSON: {error}") from None
    if not isinstance(found, list) or len(found) > _MOST or not all(isinstance(item, dict) for item in found):
        raise errors.InvalidError(f"the output {OUTPUT!r} must be a JSON list of at most {_MOST} descriptors")
    return found


def runnable(item: Mapping[str, Any]) -> Runnable:
    """The runnable in a document, with `FIRST` as its version. Raises InvalidError."""
    return descriptor.check(document.Parsed(_completed(item)))


def _completed(item: Mapping[str, Any]) -> dict[str, Any]:
    like = item.get("like")
    given = {key: value for key, value in item.items() if key != "like"}
    if like is None:
        return {**given, "version": FIRST}
    base = builtin.by_name().get(like) if isinstance(like, str) else None
    if base is None:
        raise errors.InvalidError(f"like: there is no built-in runnable {str(like)[:100]!r}; there are {', '.join(builtin.by_name())}")
    stored = base.stored()
    return {**stored, **given, "version": FIRST, "inputs": _merged(stored.get("inputs", []), given.get("inputs", []))}


def _merged(inputs: Sequence[Mapping[str, Any]], given: object) -> list[dict[str, Any]]:
    """The inputs, each with the given fields of its name, and then the further given ones."""
    items = [] if given is None else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise errors.InvalidError("inputs: must be a list of inputs")
    named = {str(item.get("name")): item for item in items}
    known = {str(item["name"]) for item in inputs}
    return [
        *({**item, **named.get(str(item["name"]), {})} for item in inputs),
        *(dict(item) for item in items if str(item.get("name")) not in known),
    ]


def successor(version: str) -> str:
    """The version after this one: the next minor number."""
    major, minor, _ = version.partition("-")[0].split(".")
    return f"{major}.{int(minor) + 1}.0"
