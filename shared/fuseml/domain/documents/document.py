"""Validation of documents (workflows, extension records): YAML or JSON in, frozen models out, all problems at once.

Every problem carries the path of the field with its line and column: authors look at the text, not at the models.
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
    """Parent of all documents and payloads: immutable; an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", defer_build=True)


def _as_text(value: object) -> object:
    # YAML reads `cpu: 1` and `verbose: false` as number and boolean; the author means the characters.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value


Text = Annotated[str, pydantic.BeforeValidator(_as_text)]
"""Text that may be written as any YAML scalar: `1` is "1", `false` is "false"."""

# A longer list helps no reader, and each problem costs a search for the closest name.
MAX_PROBLEMS = 100

M = TypeVar("M", bound=pydantic.BaseModel)


def parse(text: str, lines_before: int = 0) -> Parsed:
    """Read one YAML (or JSON, its subset) document, which begins after some lines of a file. Raises InvalidError as `source.parse` does.

    The YAML parser is imported here: requests of programs and stored documents are plain JSON and do without it.
    """
    from fuseml.domain.documents import source

    return source.parse(text, lines_before)


def load(model: type[M], text: str, *, kind: str = "document") -> M:
    """Parse and validate a document. Raises InvalidError that lists every problem with path, line, column and suggestion."""
    parsed = parse(text)
    return validate(model, parsed.data, position=parsed.position, kind=kind)


def validate(model: type[M], data: object, *, position: Callable[[Path], Position | None] | None = None, kind: str = "document") -> M:
    """Validate parsed data. `position` maps a path to its line and column in the text, `kind` names the document in messages.

    Raises InvalidError that lists the first `MAX_PROBLEMS` problems.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        problems = [_problem(model, data, item, position) for item in details[:MAX_PROBLEMS]]
        if len(details) > MAX_PROBLEMS:
            problems.append(errors.Problem("", f"{len(details) - MAX_PROBLEMS} more problems; correct the first ones and validate again"))
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
    # pydantic puts names of union members and validators into `loc`; the path that messages show has the parts of the data only.
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
    """The keys that `model` accepts at `path` of its data."""
    annotation: object = model
    for part in path:
        # An index, or the key of a plain dict, names no field: the annotation stays, its models are those of the items.
        named = [info for inner in _models_in(annotation) for name, info in inner.model_fields.items() if part in (name, info.alias)]
        annotation = named[0].annotation if named else annotation
    return {info.alias or name for inner in _models_in(annotation) for name, info in inner.model_fields.items()}


def _models_in(annotation: object) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


_LONGEST_WORD = 100
_MOST_WORDS = 1_000
_MOST_COMPARISONS = 20_000


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The closest of the first 1,000 `known` words, or None when none is similar."""
    if len(word) > _LONGEST_WORD:
        return None
    known = known[:_MOST_WORDS]
    matches = difflib.get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    return next((name for name in known if matches and name.lower() == matches[0]), None)


class Suggestions:
    """Suggestions for the mistakes of one document, with bounded work: a suggestion compares a mistake with every name, and a document may
    hold thousands of both.
    """

    def __init__(self) -> None:
        self._left = _MOST_COMPARISONS

    def nearest(self, word: str, known: Sequence[str]) -> str | None:
        """As `nearest`; None after 20,000 comparisons."""
        if self._left <= 0:
            return None
        self._left -= min(len(known), _MOST_WORDS)
        return nearest(word, known)


IDENTIFIER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")
"""Names of projects, codesets, extensions: the original API's `identifierPattern`."""


def check_identifier(what: str, value: str, limit: int = 100) -> str:
    """Return `value` if it is a legal identifier. Raises InvalidError that lists the allowed characters."""
    if not IDENTIFIER.fullmatch(value) or len(value) > limit:
        problem = errors.Problem(
            what, f"{value[:limit]!r} is not a valid name: letters, digits, '-' and '_', at most {limit} characters, not beginning with '-'"
        )
        raise errors.InvalidError(str(problem), [problem])
    return value
