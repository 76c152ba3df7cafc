"""Recovery of a document that violates its schema: the valid rest is validated by the rules in the same pass."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import pydantic

from fuseml.domain import errors

M = TypeVar("M", bound=pydantic.BaseModel)

# A repair of one level can reveal problems of the level below it; documents nest no deeper than this.
_ROUNDS = 4
_DEPTH = 16


def recover(model: type[M], data: object, failure: BaseException | None, *, hole: str, lists: Collection[str]) -> M | None:
    """The model of the valid part of `data`, with holes in place of invalid values; None when too little is valid.

    `failure` is pydantic's validation error for `data`. Missing or invalid text becomes `hole`. An invalid list, and a missing list
    whose key is in `lists`, becomes a list of one empty item.
    """
    repaired = _copy(data)
    for _ in range(_ROUNDS):
        if not isinstance(failure, pydantic.ValidationError) or not isinstance(repaired, dict):
            return None
        for problem in failure.errors(include_url=False, include_context=False, include_input=False):
            _repair(repaired, problem["loc"], problem["type"], hole, lists)
        try:
            return model.model_validate(repaired)
        except pydantic.ValidationError as error:
            failure = error
    return None


def unrelated(problems: Sequence[errors.Problem], refused: Sequence[errors.Problem]) -> list[errors.Problem]:
    """The problems outside of the paths in `refused`: inside them the values are holes, not the author's."""
    paths = {problem.path for problem in refused}
    return [problem for problem in problems if not any(part in paths for part in _ancestors(problem.path))]


def _ancestors(path: str) -> Iterator[str]:
    yield path
    for match in re.finditer(r"[.\[]", path):
        yield path[: match.start()]


def _copy(data: object, depth: int = 0) -> object:
    # Models do not reach deeper, so nothing there is repaired; hostile JSON could nest until the stack overflows.
    if depth == _DEPTH:
        return data
    if isinstance(data, dict):
        return {key: _copy(value, depth + 1) for key, value in data.items()}
    return [_copy(value, depth + 1) for value in data] if isinstance(data, list) else data


def _repair(data: object, location: tuple[int | str, ...], kind: str, hole: str, lists: Collection[str]) -> None:
    *parents, last = location or ("",)
    holder, key = data, last
    for part in parents:
        child = _child(data, part)
        if child is not None:  # a part without a child is the name of a validator
            holder, key, data = data, part, child
    if not isinstance(data, dict | list):  # as is a part behind a scalar
        data, last = holder, key
    if isinstance(data, list) and isinstance(last, int) and last < len(data):
        data[last] = {} if kind == "model_type" else hole
    elif isinstance(data, dict) and kind == "missing":
        data[last] = [{}] if last in lists else hole
    elif isinstance(data, dict):
        match kind:
            case "string_type":
                data[last] = hole
            case "list_type":
                data[last] = [{}]
            case "model_type":
                data[last] = {}
            case _:
                data.pop(last, None)


def _child(data: object, part: int | str) -> object:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None
