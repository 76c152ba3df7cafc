"""Record files: documents of the registry that refer to secrets, instead of holding them.

In the configuration of credentials, and nowhere else, `${env:NAME}` stands for an environment variable and `${file:PATH}` for the
text of a file, its last line break left out; the path is relative to the record file. Other text stays as it is. Nothing but this
module resolves references: the server gets values, and keeps them sealed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fuseml.cli import options, session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.domain.documents import document

Lists = Sequence[str]
"""The lists that lead from a document to its credentials."""

EXTENSION: Lists = ("services", "credentials")
SERVICE: Lists = ("credentials",)
CREDENTIALS: Lists = ()

STANDARD_INPUT = "-"
_SUFFIXES = (".yaml", ".yml", ".json")
_REFERENCE = re.compile(r"\$\{(env|file):([^{}]*)\}")
# At the start of a line this ends a YAML document even inside of a text block, so a plain search finds every one.
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """One document of a file, its references resolved. `data` may hold secrets."""

    file: str
    data: dict[str, object] = field(repr=False)
    places: Mapping[str, tuple[int, int]] = field(repr=False)

    @property
    def id(self) -> str:
        """Empty when it has none."""
        return str(self.data.get("id") or "")

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """Problems that the server finds in the record are told with their places in the file."""
        with session.blaming(self.file):
            try:
                yield
            except errors.InvalidError as error:
                error.problems = tuple(self._placed(problem) for problem in error.problems)
                raise

    def _placed(self, problem: errors.Problem) -> errors.Problem:
        # Only the text was in YAML: what was sent has no lines.
        path = problem.path
        above = max((known for known in self.places if path == known or path.startswith((f"{known}.", f"{known}["))), key=len, default="")
        line, column = self.places.get(above, (None, None))
        return errors.Problem(path, problem.message, line, column, problem.suggestion)


@contextlib.contextmanager
def given(context: typer.Context, file: str | None, lists: Lists, **fields: object) -> Iterator[str | dict[str, object]]:
    """The document to send: what the file holds or the flags say. Problems that are found inside are told with their places in the file.

    Raises InvalidError for both at once, and for references to what is not there.
    """
    document = options.document(file, **fields)
    if not file or isinstance(document, dict):
        yield document
    elif _REFERENCE.search(document):
        record = _record(file, document, lists, session.settings(context).environment)
        with record.blamed():
            yield record.data
    else:
        # As it was written: then the server can tell the places itself.
        with session.blaming(file):
            yield document


def load(context: typer.Context, place: str) -> list[Record]:
    """Every extension record of a file, or of the YAML and JSON files of a folder and of its folders, in the order of their names.

    Raises NotFoundError when there is none, InvalidError for what is no record, for records without an id, for two of one id, and for
    references to what is not there.
    """
    environment = session.settings(context).environment
    records = [_record(file, text, EXTENSION, environment) for file in _files(place) for text in _documents(session.read(file))]
    if not records:
        raise errors.NotFoundError(f"{place} holds no record; write one into a .yaml, .yml or .json file")
    known: dict[str, Record] = {}
    for record in records:
        if not record.id:
            message = "is required: a record that is applied again must be known again"
            raise _refusal(record.file, [errors.Problem("id", message, *record.places.get("", (None, None)))])
        if record.id in known:
            message = f"{record.id!r} stands in {known[record.id].file} already"
            raise _refusal(record.file, [errors.Problem("id", message, *record.places.get("id", (None, None)))])
        known[record.id] = record
    return records


def _files(place: str) -> Sequence[str]:
    folder = Path(place)
    if place == STANDARD_INPUT or not folder.is_dir():
        return [place]
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return [str(path) for path in sorted(found) if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _documents(text: str) -> Iterator[str]:
    """The documents of a file that hold something, each on its own lines of the file."""
    cuts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in itertools.pairwise(cuts):
        lines = text[start:end].removeprefix("---")
        if any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in lines.splitlines()):
            yield "\n" * text.count("\n", 0, start) + text[start:end]


def _record(file: str, text: str, lists: Lists, environment: Mapping[str, str]) -> Record:
    from fuseml.domain.documents import document

    with session.blaming(file):
        parsed = document.parse(text)
    data = _plain(parsed.data)
    if not isinstance(data, dict):
        raise _refusal(file, [errors.Problem("", "a record must be a mapping of keys to values", *(parsed.position(()) or (None, None)))])
    folder = Path() if file == STANDARD_INPUT else Path(file).parent
    problems = [
        errors.Problem(
            document.render_path((*path, key)), f"{data.get('id') or 'it'}: {wrong}", *(parsed.position((*path, key)) or (None, None))
        )
        for path, configuration in _secrets(data, lists, ())
        for key, wrong in _resolve(configuration, folder, environment)
    ]
    if problems:
        raise _refusal(file, problems)
    return Record(file, data, {document.render_path(path): place for path, place in parsed.positions()})


def _refusal(file: str, problems: Sequence[errors.Problem]) -> errors.InvalidError:
    return errors.InvalidError(f"{file} is not valid: {problems[0]}", problems, details={"source": file})


def _plain(value: object) -> object:
    """A copy as JSON can hold it: numbers as they were spelled, `1.10` stays `1.10`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool) else str(value)


def _secrets(node: Mapping[str, object], lists: Lists, path: document.Path) -> Iterator[tuple[document.Path, dict[str, object]]]:
    """The configurations of all credentials below, with their paths."""
    if not lists:
        held = node.get("configuration")
        if isinstance(held, dict):
            yield (*path, "configuration"), held
        return
    parts = node.get(lists[0])
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield from _secrets(part, lists[1:], (*path, lists[0], index))


def _resolve(configuration: dict[str, object], folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Put values in the place of references; yields (key, what is wrong) where that cannot be done."""
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
