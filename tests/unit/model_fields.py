"""The fields of a model at every depth, by dotted name, and documents in which one field is changed."""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

_ABSENT = object()


def names(model: type[pydantic.BaseModel], *leaves: type[pydantic.BaseModel]) -> Iterator[str]:
    """Every field of the model and of the models in it: `env`, `env.name`, `env.value`.

    Fields that are ignored on input (`exclude`) are left out, and so are the fields of the `leaves`.
    """
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        yield name
        for nested in dict.fromkeys(_models(field.annotation)):
            if not issubclass(nested, leaves):
                yield from (f"{name}.{inner}" for inner in names(nested, *leaves))


def _models(annotation: object) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def changed(data: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Copies of a document: in each, one occurrence of the field is left out, or has another value (also that of another occurrence)."""
    path = name.split(".")
    values = [holder[path[-1]] for holder in _holders(data, path)]
    for index, present in enumerate(values):
        for value in (*_others(present), *(other for other in values if other != present), _ABSENT):
            copied = copy.deepcopy(data)
            target = list(_holders(copied, path))[index]
            if value is _ABSENT:
                del target[path[-1]]
            else:
                target[path[-1]] = value
            yield copied


def _holders(data: object, path: list[str]) -> Iterator[dict[str, Any]]:
    """The mappings that hold the last name of the path."""
    if isinstance(data, list):
        for item in data:
            yield from _holders(item, path)
    elif isinstance(data, dict) and path[0] in data:
        if len(path) == 1:
            yield data
        else:
            yield from _holders(data[path[0]], path[1:])


def _others(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str):
        yield f"{value}x"
    elif isinstance(value, dict) and len(value) > 1 and len(set(map(type, value.values()))) == 1:
        yield dict(list(value.items())[1:])
    elif isinstance(value, list):
        yield [*value, "x"] if all(isinstance(item, str) for item in value) else value[:-1]
