"""Templates of pipelines: workflow documents of a catalogue, each a file under the template's name.

Inputs that are artifacts (`codeset`, `model`, `dataset`, `runnable`) take patterns when the template is added to a project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.workflows import Workflow, loading

SHIPPED = "fuseml"
"""The catalogue of the templates that ship."""

FOLDER = "pipelines"
"""The folder of a catalogue's templates; without it they are at the root."""

MOST = 200
"""Templates of a catalogue."""

LARGEST = 256 << 10
"""Bytes of a template."""

_FILE = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_-]{0,99})\.ya?ml")


@dataclass(frozen=True, slots=True)
class Reference:
    """A template of a catalogue."""

    catalog: str
    name: str

    def __str__(self) -> str:
        return self.name if self.catalog == SHIPPED else f"{self.catalog}/{self.name}"


@dataclass(frozen=True, slots=True)
class Template:
    """A template at a version of its catalogue: a commit, or the version of FuseML for a shipped one."""

    reference: Reference
    version: str
    workflow: Workflow

    @property
    def origin(self) -> str:
        """The text by which a workflow records its template."""
        return f"{self.reference.catalog}/{self.reference.name}@{self.version}"


def reference(text: str) -> Reference:
    """Read `TEMPLATE` for one that ships, or `CATALOG/TEMPLATE`. Raises InvalidError."""
    catalog, slash, name = text.rpartition("/")
    found = Reference(catalog if slash else SHIPPED, name)
    for part in (found.catalog, found.name):
        if not document.IDENTIFIER.fullmatch(part) or len(part) > 100:
            raise errors.InvalidError(
                f"{text[:100]!r} is not a template; write its name, or CATALOG/NAME for one of a registered catalogue"
            )
    return found


def name_of(path: str) -> str | None:
    """The name of the template in a file of the templates' folder; None for another file."""
    match = _FILE.fullmatch(path)
    return match["name"] if match else None


def is_template(path: str) -> bool:
    """Whether a file of a catalogue may be a template: at the root, or in the folder of the templates."""
    return name_of(path.removeprefix(f"{FOLDER}/")) is not None


def load(found: Reference, version: str, content: bytes) -> Template:
    """The template in a file. Raises InvalidError for a document that is no workflow, or that is too large."""
    if len(content) > LARGEST:
        raise errors.InvalidError(f"the template {found} has {len(content)} bytes; the limit is {LARGEST}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise errors.InvalidError(f"the template {found} is not UTF-8 text") from None
    try:
        return Template(found, version, loading.load(text))
    except errors.InvalidError as error:
        raise errors.InvalidError(f"the template {found}: {error.message}", error.problems) from error


def choose(catalog: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name -> content of the templates among the files of a catalogue, by path. Raises InvalidError for two of one name, and for too many."""
    folder = f"{FOLDER}/"
    inside = any(path.startswith(folder) for path in files)
    listed = {path.removeprefix(folder): content for path, content in files.items() if not inside or path.startswith(folder)}
    found: dict[str, bytes] = {}
    for path, content in sorted(listed.items()):
        name = name_of(path)
        if name is None:
            continue
        if name in found:
            raise errors.InvalidError(f"the catalogue {catalog!r} has two templates of the name {name!r}; remove one of the files")
        found[name] = content
    if len(found) > MOST:
        raise errors.InvalidError(f"the catalogue {catalog!r} has {len(found)} templates; the limit is {MOST}")
    return found


def takes_patterns(type_: str) -> bool:
    """Whether an input of the type takes a pattern of artifacts."""
    return type_ in ("codeset", "model", "dataset", "runnable")
