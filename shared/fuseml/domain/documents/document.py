"""Documents that people write (workflows, extension records): YAML or JSON in, frozen models out, all problems at once.

Every problem carries the path of the field and its line and column, because the writer looks at the text, not at our models.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

import pydantic
import pydantic_core

from fuseml.domain import errors
from fuseml.domain.documents import positions

Path = positions.Path
Position = positions.Position
Parsed = positions.Parsed
render_path = positions.render_path


class Model(pydantic.BaseModel):
    """The parent of every document and payload: immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", defer_build=True)


def _as_text(value: object) -> object:
    # YAML reads `cpu: 1` and `verbose: false` as number and boolean; the writer meant the characters.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value


Text = Annotated[str, pydantic.BeforeValidator(_as_text)]
"""Text that may be written as any YAML scalar: `1` is "1", `false` is "false"."""

# More is no help to anybody who reads it, and each costs a search for the word that was meant.
MAX_PROBLEMS = 100

M = TypeVar("M", bound=pydantic.BaseModel)


def parse(text: str) -> Parsed:
    """Read one YAML (or JSON, its subset) document. Raises InvalidError as `source.parse` does.

    The parser is imported here: what programs send, and what is stored, is plain JSON.
    """
    from fuseml.domain.documents import source

    return source.parse(text)


def load(model: type[M], text: str, *, kind: str = "document") -> M:
    """Parse and validate in one go. Raises InvalidError that lists every problem with path, line, column and suggestion."""
    parsed = parse(text)
    return validate(model, parsed.data, position=parsed.position, kind=kind)


def validate(model: type[M], data: object, *, position: Callable[[Path], Position | None] | None = None, kind: str = "document") -> M:
    """Validate already parsed data. `position` tells where a path stood in the text, `kind` names the document in the message."""
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        problems = [_problem(model, data, item, position) for item in found[:MAX_PROBLEMS]]
        if len(found) > MAX_PROBLEMS:
            problems.append(errors.Problem("", f"{len(found) - MAX_PROBLEMS} more problems; mend the first ones, then look again"))
        raise errors.InvalidError(_summary(kind, problems), problems) from error


def _summary(kind: str, problems: Sequence[errors.Problem]) -> str:
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"the {kind} is not valid: {problems[0]}{rest}"


def _problem(
    model: type[pydantic.BaseModel], data: object, item: pydantic_core.ErrorDetails, position: Callable[[Path], Position | None] | None
) -> errors.Problem:
    path = _data_path(item["loc"], data)
    line, column = (position(path) if position else None) or (None, None)
    suggestion = None
    message = _MESSAGES.get(item["type"], "")
    if item["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, path[:-1]))
        suggestion = nearest(str(path[-1]), known)
        message = f"unknown key {str(path[-1])!r}" + ("" if suggestion or not known else f"; known here: {', '.join(known)}")
    elif item["type"] == "value_error":
        message = str(item.get("ctx", {}).get("error", item["msg"]))
    elif not message:
        message = item["msg"][:1].lower() + item["msg"][1:]
    return errors.Problem(render_path(path), message, line, column, suggestion)


_MESSAGES = {
    "missing": "is required",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be true or false",
}


def _data_path(location: tuple[int | str, ...], data: object) -> Path:
    # pydantic puts names of union members and validators into `loc`; only what leads through the data is a path for people.
    path: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(data, Mapping) and isinstance(part, str) and (part in data or last):
            data = data.get(part)
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _fields_at(model: type[pydantic.BaseModel], path: Path) -> set[str]:
    """The keys that `model` knows at `path` of its data."""
    annotation: object = model
    for part in path:
        # An index, or the key of a plain dict, names no field: what stands behind it is found in the annotation as it is.
        named = [info for known in _models_in(annotation) for name, info in known.model_fields.items() if part in (name, info.alias)]
        annotation = named[0].annotation if named else annotation
    return {info.alias or name for known in _models_in(annotation) for name, info in known.model_fields.items()}


def _models_in(annotation: object) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


_LONGEST_WORD = 100
_MOST_WORDS = 1_000
_MOST_COMPARISONS = 20_000


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that a person most likely meant, or None when nothing is near. Searches the first 1,000 of `known`."""
    if len(word) > _LONGEST_WORD:
        return None
    known = known[:_MOST_WORDS]
    found = difflib.get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    return next((name for name in known if found and name.lower() == found[0]), None)


class Suggestions:
    """The suggestions for the mistakes of one document. Their work is bounded: a document may hold thousands of names and of mistakes, and
    a suggestion compares a mistake with every name.
    """

    def __init__(self) -> None:
        self._left = _MOST_COMPARISONS

    def nearest(self, word: str, known: Sequence[str]) -> str | None:
        """As `nearest`; None once 20,000 words were compared."""
        if self._left <= 0:
            return None
        self._left -= min(len(known), _MOST_WORDS)
        return nearest(word, known)


IDENTIFIER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")
"""Names of projects, codesets, extensions: the original API's `identifierPattern`."""


def check_identifier(what: str, value: str, limit: int = 100) -> str:
    """Return `value` when it is a legal identifier. Raises InvalidError that says which characters are allowed."""
    if not IDENTIFIER.fullmatch(value) or len(value) > limit:
        problem = errors.Problem(
            what, f"{value[:limit]!r} is not a valid name: letters, digits, '-' and '_', at most {limit} characters, not beginning with '-'"
        )
        raise errors.InvalidError(str(problem), [problem])
    return value
