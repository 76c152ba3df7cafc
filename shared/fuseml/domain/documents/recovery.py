"""What is left of a document that breaks its schema, so that the rules behind the schema can judge the rest in the same answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import pydantic

from fuseml.domain import errors

M = TypeVar("M", bound=pydantic.BaseModel)

# Mending one level can bring to light what its absence hid; documents nest no deeper than this.
_ROUNDS = 4
_DEPTH = 16


def recover(model: type[M], data: object, failure: BaseException | None, *, hole: str, lists: Collection[str]) -> M | None:
    """`data` without what the schema refused, and with holes where something was meant; None where that is hopeless.

    `failure` is pydantic's refusal of `data`. Text that is missing or is no text becomes `hole`; a list that is no list, and a missing
    one of those in `lists`, becomes a list of one item without content.
    """
    mended = _copied(data)
    for _ in range(_ROUNDS):
        if not isinstance(failure, pydantic.ValidationError) or not isinstance(mended, dict):
            return None
        for problem in failure.errors(include_url=False, include_context=False, include_input=False):
            _mend(mended, problem["loc"], problem["type"], hole, lists)
        try:
            return model.model_validate(mended)
        except pydantic.ValidationError as error:
            failure = error
    return None


def unrelated(found: Sequence[errors.Problem], refused: Sequence[errors.Problem]) -> list[errors.Problem]:
    """What was found outside of everything that the schema refused: inside stand holes, and they are not the writer's."""
    paths = {problem.path for problem in refused}
    return [problem for problem in found if not any(part in paths for part in _ancestors(problem.path))]


def _ancestors(path: str) -> Iterator[str]:
    yield path
    for match in re.finditer(r"[.\[]", path):
        yield path[: match.start()]


def _copied(data: object, depth: int = 0) -> object:
    # What lies deeper than any model reaches is never mended; hostile JSON is nested until the stack ends.
    if depth == _DEPTH:
        return data
    if isinstance(data, dict):
        return {key: _copied(value, depth + 1) for key, value in data.items()}
    return [_copied(value, depth + 1) for value in data] if isinstance(data, list) else data


def _mend(data: object, location: tuple[int | str, ...], kind: str, hole: str, lists: Collection[str]) -> None:
    *parents, last = location or ("",)
    holder, key = data, last
    for part in parents:
        child = _child(data, part)
        if child is not None:  # what leads nowhere is the name of a validator
            holder, key, data = data, part, child
    if not isinstance(data, dict | list):  # and so is what stands behind a scalar
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
