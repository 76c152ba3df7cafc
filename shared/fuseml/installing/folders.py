"""The folders of descriptions: those that ship, by name, and the user's own, by path. Files outside of a folder are out of reach."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.installation import description, order
from fuseml.domain.installation.description import Description, Step

FILE = "description.yaml"
SHIPPED = Path(__file__).parent / "tools"
_MOST_BYTES = 256 << 10
_MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class Tool:
    """A description with its text and folder."""

    description: Description
    text: str
    folder: Path

    @property
    def name(self) -> str:
        return self.description.name

    def place(self, place: str) -> str:
        """The file or folder of a path; an address stays. Raises InvalidError for one outside of the folder, NotFoundError without a file."""
        return place if description.is_url(place) else str(confined(self.folder, place))

    def digest(self, step: Step) -> str:
        """A digest of a step and of the files that it names: equal only if the step would have the same effect."""
        digest = hashlib.sha256(step.model_dump_json().encode())
        digest.update(f"{self.description.release(step)} {self.description.namespace_of(step)}".encode())
        for place in (step.location, step.values):
            if place and not description.is_url(place):
                for file in _files(confined(self.folder, place)):
                    content = file.read_bytes()
                    digest.update(f"{file.relative_to(self.folder.resolve())} {len(content)} ".encode() + content)
        return digest.hexdigest()[:32]


def shipped() -> Sequence[str]:
    """The names of the descriptions that ship."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{FILE}"))


def tool(place: str) -> Tool:
    """The tool of a shipped description, or of the folder of a path. Raises NotFoundError with the names that ship, InvalidError."""
    is_name = "/" not in place and place not in (".", "..")
    folder = SHIPPED / place if is_name and place in shipped() else Path(place)
    if not (folder / FILE).is_file():
        nearest = document.nearest(place, shipped())
        hint = f" (did you mean {nearest!r}?)" if nearest else ""
        raise errors.NotFoundError(f"there is no tool {place!r}{hint}; the shipped ones are {', '.join(shipped())}; a folder has a {FILE}")
    return _load(folder)


def with_requirements(target: Tool) -> list[Tool]:
    """The tool after all that it requires: folders beside its own, or shipped. Raises NotFoundError, InvalidError for a cycle."""
    loaded = {target.name: target}

    def requires(name: str) -> Sequence[str]:
        if name not in loaded:
            beside = target.folder.resolve().parent / name
            try:
                loaded[name] = _load(beside) if (beside / FILE).is_file() else tool(name)
            except errors.NotFoundError as error:
                raise errors.NotFoundError(f"a requirement of {target.name}: {error.message}") from None
            if loaded[name].name != name:
                raise errors.InvalidError(
                    f"the description in {loaded[name].folder} names {loaded[name].name!r}, and is required as {name!r}"
                )
        return loaded[name].description.requires

    return [loaded[name] for name in order.ordered(target.name, requires)]


def confined(folder: Path, place: str) -> Path:
    """The file or folder at a path below `folder`, with all files below it. Raises InvalidError if one leads outside, NotFoundError."""
    root = folder.resolve()
    path = (root / place).resolve()
    if not path.is_relative_to(root):
        raise errors.InvalidError(f"{place} leads out of the folder of the description, {folder}")
    if not path.exists():
        raise errors.NotFoundError(f"the description names {place}, and {folder} has no such file")
    for file in _files(path):
        if not file.resolve().is_relative_to(root):
            raise errors.InvalidError(f"{file} is a link that leads out of the folder of the description, {folder}")
    return path


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or every file below a folder, in order. Raises TooLargeError beyond a thousand."""
    if path.is_file():
        yield path
        return
    for count, file in enumerate(sorted(path.rglob("*"))):
        if count >= _MOST_FILES:
            raise errors.TooLargeError(f"{path} has more than {_MOST_FILES} files")
        if file.is_symlink() or file.is_file():
            yield file


def _load(folder: Path) -> Tool:
    file = folder / FILE
    if file.stat().st_size > _MOST_BYTES:
        raise errors.TooLargeError(f"{file} is larger than {_MOST_BYTES >> 10} KiB")
    try:
        text = file.read_text()
    except UnicodeDecodeError:
        raise errors.InvalidError(f"{file} is not a text file") from None
    loaded = parsed(text, str(file))
    found = Tool(loaded, text, folder)
    for place in loaded.places():
        confined(folder, place)
    return found


def parsed(text: str, source: str) -> Description:
    """The description in a text from `source`. Raises InvalidError that names it."""
    try:
        return description.load(text)
    except errors.InvalidError as error:
        raise errors.InvalidError(f"{source}: {error.message}", error.problems, details={"source": source}) from None
