"""Which folders the base of an image has: read from its layers, and only where a copy depends on it."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterable
from typing import IO

from fuseml.steps import layers, registry, sdk
from fuseml.steps.dockerfiles.syntax import UnsupportedError

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_LINKS = 8
"""Links that are followed, one after the other."""


class BaseFiles:
    """The files of the image whose `blobs` are in `source`, lowest layer first. `paths` are absolute; all are looked up at once."""

    def __init__(self, source: registry.Repository, blobs: Iterable[layers.Blob], paths: Iterable[str]) -> None:
        self._source = source
        self._blobs = list(blobs)
        self._paths = {path.strip("/") for path in paths}
        self._kinds: dict[str, str] = {}
        """Path -> `folder`, `file`, `>TARGET` of a link, or empty for none."""

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder, perhaps by links. Raises UnsupportedError for a layer that cannot be read here."""
        wanted = path.strip("/")
        for _ in range(_LINKS):
            if wanted not in self._kinds:
                self._read({*self._paths, wanted})
            link = next((above for above in (*_parents(wanted), wanted) if self._kinds.get(above, "").startswith(">")), None)
            if link is None:
                return self._kinds[wanted] == "folder"
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(link), self._kinds[link][1:]))
            wanted = f"{target}{wanted[len(link) :]}".strip("/")
        raise UnsupportedError(f"{path} leads through more than {_LINKS} links in its base")

    def _read(self, wanted: set[str]) -> None:
        """Look the paths and the folders above them up, in the uppermost layer that decides about each."""
        pending = {part for path in wanted for part in (path, *_parents(path))} - self._kinds.keys()
        if pending:
            sdk.say(f"reading {len(self._blobs)} layers of {self._source.image.name}: are these folders? /{', /'.join(sorted(wanted))}")
        for blob in reversed(self._blobs):
            if not pending:
                break
            found, hidden = self._source.read(blob, lambda content: _entries(content, frozenset(pending)))  # noqa: B023 - used at once
            self._kinds |= found
            pending -= found.keys() | hidden
        self._kinds |= dict.fromkeys(pending, "")
        for path in wanted:
            self._kinds.setdefault(path, "")


def _entries(content: IO[bytes], wanted: frozenset[str]) -> tuple[dict[str, str], set[str]]:
    """The kinds of the wanted paths in a layer, and those that it hides from the layers below."""
    found: dict[str, str] = {}
    hidden: set[str] = set()
    try:
        with tarfile.open(fileobj=content, mode="r|*") as archive:
            for entry in archive:
                path = posixpath.normpath(entry.name).strip("/")
                folder, name = posixpath.split(path)
                if name.startswith(_WHITEOUT):
                    gone = f"{folder}/" if name == _OPAQUE else posixpath.join(folder, name.removeprefix(_WHITEOUT))
                    hidden |= {item for item in wanted if item == gone or item.startswith(f"{gone.rstrip('/')}/")}
                    continue
                if path in wanted:
                    found[path] = "folder" if entry.isdir() else f">{entry.linkname}" if entry.issym() else "file"
                # Not every archive has entries for the folders above a file.
                for above in _parents(path):
                    if above in wanted:
                        found.setdefault(above, "folder")
    except tarfile.TarError as error:
        raise UnsupportedError(f"a layer of its base cannot be read ({error})") from None
    return found, hidden


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]
