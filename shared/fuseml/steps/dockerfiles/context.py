"""The files of the codeset that COPY and ADD put into an image. Nothing outside the codeset is read, wherever links lead."""

from __future__ import annotations

import bisect
import itertools
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuseml.steps import layers, sdk
from fuseml.steps.dockerfiles import ignoring
from fuseml.steps.dockerfiles.recipe import Copy
from fuseml.steps.dockerfiles.syntax import UnsupportedError

_PATTERN = re.compile(r"[*?\[]")
_MOST = 500_000
"""Files of a codeset."""

IsFolder = Callable[[str], bool]
"""Whether the base has a folder at an absolute path."""


class Context:
    """The codeset at `root`, without the files that `.dockerignore`, or that of the Dockerfile, leaves out."""

    def __init__(self, root: Path, dockerfile: str) -> None:
        self._root = Path(os.path.realpath(root))
        names = (f"{dockerfile}.dockerignore", ".dockerignore")
        name = next((name for name in names if (self._root / name).is_file()), None)
        self.ignored = ignoring.rules(sdk.read_file(self._root, name)) if name else []
        self._files: list[str] | None = None

    @property
    def files(self) -> list[str]:
        """The paths of the files and links, sorted. Raises StepError for too many."""
        if self._files is None:
            found: list[str] = []
            for path in self._walk(""):
                found.append(path)
                if len(found) > _MOST:
                    raise sdk.StepError(f"the codeset has more than {_MOST} files to copy; leave some out by .dockerignore")
            self._files = sorted(path for path in found if not ignoring.is_ignored(path, self.ignored))
        return self._files

    def _has(self, path: str) -> bool:
        position = bisect.bisect_left(self.files, path)
        return position < len(self.files) and self.files[position] == path

    def _below(self, prefix: str) -> Iterator[str]:
        """The paths with the prefix, which stand together."""
        rest = itertools.islice(self.files, bisect.bisect_left(self.files, prefix), None)
        return itertools.takewhile(lambda path: path.startswith(prefix), rest)

    def _walk(self, folder: str) -> Iterator[str]:
        with os.scandir(self._root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if folder or entry.name not in ignoring.OWN:
                        yield from self._walk(path)
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield path

    def copied(self, copies: Sequence[Copy], folders: set[str], is_folder: IsFolder) -> dict[str, layers.File]:
        """Path in the image -> its file, of all copies in order. `folders` are those that the image has anyway.

        Raises StepError for a source that is missing or outside the codeset, UnsupportedError for an archive to unpack.
        """
        found: dict[str, layers.File] = {}
        known = set(folders)
        for item in copies:
            for source in self._sources(item):
                for target, file in self._one(item, source, known, is_folder):
                    found.pop(target, None)
                    found[target] = file
                    known |= set(_parents(target))
        if clash := next((path for path in found if path in known), None):
            raise sdk.StepError(f"the Dockerfile makes {clash} both a file and a folder")
        return found

    def _sources(self, item: Copy) -> Iterator[str]:
        """The paths of the sources in the codeset; empty for the whole codeset."""
        for text in item.sources:
            parts = [part for part in text.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise sdk.StepError(f"{item.instruction}: '{text[:100]}' is outside the codeset; use a path of the codeset")
            if not _PATTERN.search(text):
                yield "/".join(parts)
                continue
            matched = re.compile(ignoring.expression(parts))
            names = dict.fromkeys(path[: match.end()] for path in self.files if (match := _beginning(matched, path)))
            if not names:
                raise sdk.StepError(f"{item.instruction}: no file of the codeset matches '{text[:100]}'{self._hint()}")
            yield from names

    def _hint(self) -> str:
        return " (.dockerignore leaves files out)" if self.ignored else ""

    def _one(self, item: Copy, source: str, known: set[str], is_folder: IsFolder) -> Iterator[tuple[str, layers.File]]:
        real = os.path.realpath(self._root / source)
        if os.path.commonpath([str(self._root), real]) != str(self._root):
            raise sdk.StepError(f"{item.instruction}: '{source[:100]}' leads outside the codeset; use a file of the codeset")
        inside = os.path.relpath(real, self._root) if real != str(self._root) else ""
        if not Path(real).is_dir():
            if not self._has(inside):
                raise sdk.StepError(f"{item.instruction}: the codeset has no file '{source[:100]}'{self._hint()}")
            if item.unpacks and tarfile.is_tarfile(real):
                raise UnsupportedError(f"{item.instruction} unpacks {source[:100]} (COPY does not)")
            into = item.is_folder or item.target == "/" or item.target in known or is_folder(item.target)
            yield f"{item.target.rstrip('/')}/{source.rpartition('/')[2]}" if into else item.target, self._file(item, inside)
            return
        prefix = f"{inside}/" if inside else ""
        below = list(self._below(prefix))
        if not below:
            raise sdk.StepError(f"{item.instruction}: the codeset has no files in '{source[:100] or '.'}'{self._hint()}")
        for path in below:
            yield f"{item.target.rstrip('/')}/{path[len(prefix) :]}", self._file(item, path)

    def _file(self, item: Copy, path: str) -> layers.File:
        status = (self._root / path).lstat()
        executable = bool(status.st_mode & stat.S_IXUSR)
        mode = item.mode if item.mode is not None else 0o755 if executable else 0o644
        return layers.File(self._root / path, mode, *item.owner)


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _beginning(pattern: re.Pattern[str], path: str) -> re.Match[str] | None:
    """The match of the pattern with the path, or with the folders at its beginning."""
    match = pattern.match(path)
    return match if match and (match.end() == len(path) or path[match.end()] == "/") else None
