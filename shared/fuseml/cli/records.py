"""Record files: documents of the registry that refer to secrets instead of containing them.

Only in the configuration of credentials, `${env:NAME}` stands for an environment variable and `${file:PATH}` for the text of a file
without its last line break; the path is relative to the record file. Other text is unchanged. Only this module resolves references:
the server receives values and seals them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fuseml.cli import options, session
from fuseml.domain import errors
from fuseml.domain.documents import multiple

if TYPE_CHECKING:
    from fuseml.domain.documents import document

Lists = Sequence[str]
"""The keys of the lists on the path from a document to its credentials."""

EXTENSION: Lists = ("services", "credentials")
SERVICE: Lists = ("credentials",)
CREDENTIALS: Lists = ()

STANDARD_INPUT = "-"
_SUFFIXES = (".yaml", ".yml", ".json")
_REFERENCE = re.compile(r"\$\{(env|file):([^{}]*)\}")


@dataclass(frozen=True)
class Record:
    """One document of a file with resolved references. `data` may contain secrets; `places` maps paths to (line, column)."""

    file: str
    data: dict[str, object] = field(repr=False)
    places: Mapping[str, tuple[int, int]] = field(repr=False)

    @property
    def id(self) -> str:
        """The record's id; empty when the document has none."""
        return str(self.data.get("id") or "")

    @contextlib.contextmanager
    def locating_problems(self) -> Iterator[None]:
        """Add file, line and column to the problems of an InvalidError that is raised inside."""
        with session.naming_source(self.file):
            try:
                yield
            except errors.InvalidError as error:
                error.problems = tuple(self._located(problem) for problem in error.problems)
                raise

    def _located(self, problem: errors.Problem) -> errors.Problem:
        # The server received JSON, whose lines are not those of the file.
        path = problem.path
        parents = (place for place in self.places if path == place or path.startswith((f"{place}.", f"{place}[")))
        line, column = self.places.get(max(parents, key=len, default=""), (None, None))
        return errors.Problem(path, problem.message, line, column, problem.suggestion)


@contextlib.contextmanager
def request_document(context: typer.Context, file: str | None, lists: Lists, **fields: object) -> Iterator[str | dict[str, object]]:
    """The document of a request, from a file or from flags. Problems raised inside get their places in the file.

    Raises InvalidError for a file together with flags, and for unresolvable references.
    """
    document = options.document(file, **fields)
    if not file or isinstance(document, dict):
        yield document
    elif _REFERENCE.search(document):
        record = _record(file, multiple.Part(document, 0), lists, session.settings(context).environment)
        with record.locating_problems():
            yield record.data
    else:
        # The text is sent unchanged: the server reports lines and columns of the file.
        with session.naming_source(file):
            yield document


def load(context: typer.Context, place: str) -> list[Record]:
    """The extension records of a file, or of all YAML and JSON files below a folder, ordered by path.

    Raises NotFoundError when there is none, InvalidError for documents that are not records, for missing and duplicate ids, and for
    unresolvable references.
    """
    environment = session.settings(context).environment
    records = [_record(file, part, EXTENSION, environment) for file in _files(place) for part in multiple.separate(session.read(file))]
    if not records:
        raise errors.NotFoundError(f"{place} contains no record; add one in a .yaml, .yml or .json file")
    by_id: dict[str, Record] = {}
    for record in records:
        if not record.id:
            message = "is required: it identifies the record when the file is applied again"
            raise _refusal(record.file, [errors.Problem("id", message, *record.places.get("", (None, None)))])
        if record.id in by_id:
            message = f"{record.id!r} is already used in {by_id[record.id].file}"
            raise _refusal(record.file, [errors.Problem("id", message, *record.places.get("id", (None, None)))])
        by_id[record.id] = record
    return records


def _files(place: str) -> Sequence[str]:
    folder = Path(place)
    if place == STANDARD_INPUT or not folder.is_dir():
        return [place]
    files = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return [str(path) for path in sorted(files) if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _record(file: str, part: multiple.Part, lists: Lists, environment: Mapping[str, str]) -> Record:
    from fuseml.domain.documents import document

    with session.naming_source(file):
        parsed = document.parse(*part)
    data = _plain(parsed.data)
    if not isinstance(data, dict):
        raise _refusal(file, [errors.Problem("", "a record must be a mapping of keys to values", *(parsed.position(()) or (None, None)))])
    folder = Path() if file == STANDARD_INPUT else Path(file).parent
    problems = [
        errors.Problem(
            document.render_path((*path, key)),
            f"{data.get('id') or 'the record'}: {message}",
            *(parsed.position((*path, key)) or (None, None)),
        )
        for path, configuration in _secrets(data, lists, ())
        for key, message in _resolve(configuration, folder, environment)
    ]
    if problems:
        raise _refusal(file, problems)
    return Record(file, data, {document.render_path(path): place for path, place in parsed.positions()})


def _refusal(file: str, problems: Sequence[errors.Problem]) -> errors.InvalidError:
    return errors.InvalidError(f"{file} is not valid: {problems[0]}", problems, details={"source": file})


def _plain(value: object) -> object:
    """A copy for JSON; numbers become texts, so `1.10` stays `1.10`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool) else str(value)


def _secrets(node: Mapping[str, object], lists: Lists, path: document.Path) -> Iterator[tuple[document.Path, dict[str, object]]]:
    """The configurations of all credentials in the document, with their paths."""
    if not lists:
        configuration = node.get("configuration")
        if isinstance(configuration, dict):
            yield (*path, "configuration"), configuration
        return
    parts = node.get(lists[0])
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield from _secrets(part, lists[1:], (*path, lists[0], index))


def _resolve(configuration: dict[str, object], folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Replace references by values, in place; yields (key, message) for each unresolvable reference."""
    for key, text in configuration.items():
        if isinstance(text, str):
            try:
                configuration[key] = _REFERENCE.sub(lambda reference: _value(reference, folder, environment), text)
            except errors.NotFoundError as error:
                yield key, error.message


def _value(reference: re.Match[str], folder: Path, environment: Mapping[str, str]) -> str:
    kind, name = reference.groups()
    if kind == "env":
        if name not in environment:
            raise errors.NotFoundError(f"the environment variable {name!r} is not set")
        return environment[name]
    try:
        return (folder / name).read_text().removesuffix("\n").removesuffix("\r")
    except ValueError:
        raise errors.NotFoundError(f"{folder / name!r} is not a text file") from None
    except OSError as error:
        raise errors.NotFoundError(f"the file {folder / name} cannot be read: {error.strerror}") from None
