"""Types of fields of workflow documents: durations, lists that may be left empty, scalars as text, and fields that the server sets."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import pydantic

from fuseml.domain.documents import document

_DURATION = re.compile(r"(?=\d)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?|(\d{1,9})", re.ASCII)
_MAX_SECONDS = 366 * 86_400


def seconds(value: object) -> object:
    """A duration, `30s`, `10m`, `1h30m`, `2d` or a number of seconds, as whole seconds. Raises ValueError."""
    match = _DURATION.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if not match:
        raise ValueError(f"{value!s} is not a duration; write 30s, 10m, 1h30m, or whole seconds")
    days, hours, minutes, rest, bare = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest + bare
    if not 0 < total <= _MAX_SECONDS:
        raise ValueError(f"{value!s} is not between one second and {_MAX_SECONDS // 86_400} days")
    return total


def _items(value: object) -> object:
    # `inputs:` without a value is an empty list, as in the original.
    return [] if value is None else value


_Item = TypeVar("_Item")
Items = Annotated[list[_Item], pydantic.BeforeValidator(_items)]

Scalar = Annotated[document.Text, pydantic.WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""Text that the schema for editors also allows as a number or a boolean."""

Duration = Annotated[
    int,
    pydantic.BeforeValidator(seconds),
    pydantic.WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}]}
    ),
]

ReadOnly = Annotated[
    None,
    pydantic.BeforeValidator(lambda _: None),
    pydantic.WithJsonSchema({"readOnly": True}),
    pydantic.Field(exclude=True, description="Set by the server; the value in a document is ignored."),
]
