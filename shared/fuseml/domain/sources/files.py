"""The files of a source: which ones are read, and the items that they declare, with every fault at once.

A folder for each kind lies below the path of the source: `projects/`, `registry/`, `workflows/`, `assignments/`. Their YAML and JSON files may be
in folders of any depth, and hold several documents. Nothing of a file is executed or replaced: in particular no text is a reference to a
variable or a file of the server.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from fuseml.domain import errors, inert_text
from fuseml.domain.artifacts import subscription
from fuseml.domain.documents import document, multiple
from fuseml.domain.registry import extension, registry
from fuseml.domain.sources import refusals
from fuseml.domain.workflows import Workflow, loading

Kind = Literal["project", "extension", "workflow", "assignment"]

KINDS: Sequence[Kind] = ("project", "extension", "workflow", "assignment")
"""In the order in which they are made: later ones refer to earlier ones."""

FOLDERS: Mapping[str, Kind] = {"projects": "project", "registry": "extension", "workflows": "workflow", "assignments": "assignment"}

MOST = 1000
"""Items of one source."""

_SUFFIXES = (".yaml", ".yml", ".json")
_REFERENCE = re.compile(r"\$\{(?:env|file):[^{}]*\}")
_OWN = "fuseml"


class Project(document.Model):
    """A project."""

    name: document.Text
    description: Annotated[document.Text, pydantic.Field(max_length=1000)] = ""


class Assignment(document.Model):
    """The assignment of a workflow to a codeset, `PROJECT/NAME`, or to a pattern of artifacts."""

    workflow: document.Text
    codeset: document.Text = ""
    pattern: document.Text = ""

    @property
    def target(self) -> str:
        """The pattern, or the address of the codeset."""
        return self.pattern or f"code://{self.codeset}"


Value = Project | extension.Extension | Workflow | Assignment


@dataclass(frozen=True)
class Item:
    """Something that a file declares. `name` is its key among those of its kind; `locate` finds the place of a rendered path in the file."""

    kind: Kind
    name: str
    value: Value
    file: str
    locate: refusals.Locate

    def refuse(self, error: errors.FusemlError) -> list[refusals.Refusal]:
        """The faults that an operation with the item has found."""
        return refusals.of_error(self.file, error, self.locate)


@dataclass(frozen=True, slots=True)
class Declared:
    """The items of the files, in the order of `KINDS`. With a refusal they are incomplete, and nothing may be done with them."""

    items: Sequence[Item]
    refusals: Sequence[refusals.Refusal]


def normalized(path: str) -> str:
    """The path of a source, `fuseml/registry-of-team`; empty for the root. Raises InvalidError for one that leads out of the repository."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\\" in path or any(ord(character) < 32 for character in path):
        raise errors.InvalidError(f"{path[:200]!r} is no path in a repository")
    return "/".join(parts)


def is_wanted(root: str, path: str) -> bool:
    """Whether a file belongs to the source whose folders are in `root`."""
    return _kind(root, path) is not None


def _kind(root: str, path: str) -> Kind | None:
    prefix = f"{root}/" if root else ""
    if not path.startswith(prefix) or not path.endswith(_SUFFIXES):
        return None
    folder, _, rest = path.removeprefix(prefix).partition("/")
    return FOLDERS.get(folder) if rest and not any(part.startswith(".") for part in rest.split("/")) else None


def read(root: str, files: Mapping[str, bytes]) -> Declared:
    """The items of the wanted files by path. A file that holds no document declares nothing."""
    items: dict[tuple[Kind, str], Item] = {}
    faults: list[refusals.Refusal] = []
    number = 0
    for path, kind, part in _parts(root, files):
        if isinstance(part, refusals.Refusal):
            faults.append(part)
        else:
            # Those with faults count as well: they cost as much.
            number += 1
            if number > MOST:
                return Declared([], [refusals.Refusal("", f"the source declares more than {MOST} items; divide it into several sources")])
            found = _declared(kind, path, part)
            if isinstance(found, Item):
                other = items.setdefault((kind, found.name), found)
                if other is not found:
                    faults.append(_refusal(found, f"the {kind} {found.name!r} is declared in {other.file} already"))
            else:
                faults += found
        if len(faults) > refusals.MOST:
            return Declared([], [*faults[: refusals.MOST], refusals.Refusal("", "there may be more faults; correct the first ones")])
    ordered = sorted(items.values(), key=lambda item: (KINDS.index(item.kind), item.name))
    return Declared(ordered, faults)


def _parts(root: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, Kind, multiple.Part | refusals.Refusal]]:
    """The documents of the wanted files, and the faults of files that are no text."""
    for path in sorted(files):
        kind = _kind(root, path)
        if kind is None:
            continue
        # Readers of repositories put a mark in place of bytes that are no text, or half a character.
        if not _is_text(path) or "\ufffd" in path:
            shown = path.encode(errors="replace").decode()
            yield path, kind, refusals.Refusal(inert_text.visible(shown), "the path is not text in UTF-8; rename the file")
            continue
        try:
            text = files[path].decode()
        except UnicodeDecodeError:
            yield path, kind, refusals.Refusal(path, "is not text in UTF-8")
            continue
        yield from ((path, kind, part) for part in multiple.separate(text))


def _declared(kind: Kind, path: str, part: multiple.Part) -> Item | list[refusals.Refusal]:
    try:
        parsed = document.parse(*part)
    except errors.InvalidError as error:
        return refusals.of_error(path, error, lambda _: (0, 0))
    try:
        _check_texts(parsed, parsed.data, ())
        return _item(kind, path, parsed)
    except errors.InvalidError as error:
        return refusals.of_error(path, error, _locator(parsed))


def _is_text(value: str) -> bool:
    """Whether a database can hold the text: half a character and NUL it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _check_texts(parsed: document.Parsed, value: object, path: document.Path) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(parsed, key, path)
            _check_texts(parsed, inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_texts(parsed, inner, (*path, index))
    elif isinstance(value, str) and not _is_text(value):
        raise _invalid(_problem(parsed, path, document.render_path(path), "must not hold the NUL character"))


def _locator(parsed: document.Parsed) -> refusals.Locate:
    @functools.cache
    def known() -> Mapping[str, document.Position]:
        return {document.render_path(found): place for found, place in parsed.positions()}

    def locate(path: str) -> document.Position:
        places = known()
        parents = (found for found in places if not found or path == found or path.startswith((f"{found}.", f"{found}[")))
        return places.get(max(parents, key=len, default=""), (0, 0))

    return locate


def _item(kind: Kind, path: str, parsed: document.Parsed) -> Item:
    locate = _locator(parsed)
    match kind:
        case "project":
            project = document.validate(Project, parsed.data, position=parsed.position, kind="project")
            document.check_identifier("name", project.name)
            return Item(kind, project.name, project, path, locate)
        case "extension":
            record = document.validate(extension.Extension, parsed.data, position=parsed.position, kind="record")
            _check_record(record, parsed)
            return Item(kind, record.id, record, path, locate)
        case "workflow":
            workflow = loading.check(parsed)
            return Item(kind, workflow.name, workflow, path, locate)
        case "assignment":
            assignment = document.validate(Assignment, parsed.data, position=parsed.position, kind="assignment")
            _check_assignment(assignment, parsed)
            return Item(kind, f"{assignment.workflow} {assignment.target}", assignment, path, locate)


def _check_record(record: extension.Extension, parsed: document.Parsed) -> None:
    problems: list[errors.Problem] = []
    if not record.id:
        problems.append(_problem(parsed, (), "id", "is required: it identifies the record in the next commit"))
    if record.id == _OWN:
        problems.append(_problem(parsed, ("id",), "id", f"{_OWN!r} is the server's own record"))
    problems += _references(record, parsed)
    if any(extension.STEP_TOKEN in texts.values() for texts in _configurations(record)):
        problems.append(_problem(parsed, (), "configuration", f"only FuseML's own record gives steps {extension.STEP_TOKEN}"))
    if problems:
        raise errors.InvalidError(str(problems[0]), problems)
    registry.refuse_anonymous(record)


def _configurations(record: extension.Extension) -> Iterator[Mapping[str, str]]:
    yield record.configuration
    for service in record.services:
        yield service.configuration
        yield from (endpoint.configuration for endpoint in service.endpoints)
        yield from (credentials.configuration for credentials in service.credentials)


def _references(record: extension.Extension, parsed: document.Parsed) -> Iterator[errors.Problem]:
    """References as in the files of `extension apply`: there the command resolves them, here nothing does."""
    for index, service in enumerate(record.services):
        for number, credentials in enumerate(service.credentials):
            for key, text in credentials.configuration.items():
                if _REFERENCE.search(text):
                    path: document.Path = ("services", index, "credentials", number, "configuration", key)
                    yield _problem(
                        parsed,
                        path,
                        document.render_path(path),
                        "a source reads no variable and no file of the server; write <hidden>, and set the value once by "
                        f"`fuseml extension credentials update {record.id} {service.id} {credentials.id}`",
                    )


def _check_assignment(assignment: Assignment, parsed: document.Parsed) -> None:
    if bool(assignment.codeset) == bool(assignment.pattern):
        raise _invalid(_problem(parsed, (), "", "name either a codeset, PROJECT/NAME, or a pattern such as model://*"))
    if assignment.codeset and (assignment.codeset.count("/") != 1 or "*" in assignment.codeset):
        raise _invalid(_problem(parsed, ("codeset",), "codeset", f"{assignment.codeset[:100]!r} is not PROJECT/NAME"))
    try:
        subscription.parse(assignment.target)
    except errors.InvalidError as error:
        place = "pattern" if assignment.pattern else "codeset"
        raise _invalid(_problem(parsed, (place,), place, error.message)) from error


def _problem(parsed: document.Parsed, path: document.Path, shown: str, message: str) -> errors.Problem:
    return errors.Problem(shown, message, *(parsed.position(path) or (None, None)))


def _invalid(problem: errors.Problem) -> errors.InvalidError:
    return errors.InvalidError(str(problem), [problem])


def _refusal(item: Item, message: str) -> refusals.Refusal:
    return refusals.Refusal(item.file, refusals.short(message), *item.locate(""))
