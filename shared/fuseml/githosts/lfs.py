"""Git LFS: pointers that stand for large files in a repository, and the objects that they name.

The objects of a repository are in its folder, under their SHA-256, where git-lfs itself keeps them in a bare repository. They are never
removed before the repository: a later run may check out any commit.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import tempfile
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fuseml.domain import errors
from fuseml.githosts import configuration, limits

CONFIGURATION = ".lfsconfig"

_LARGEST_POINTER = 1024
_POINTER = re.compile(rb"version https://[\w./-]+/spec/v1\noid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})\n?", re.ASCII)
_OID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LONGEST_HOST = 255
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """An object: its SHA-256 in hexadecimal digits, and its bytes."""

    oid: str
    size: int


def pointer(content: bytes) -> Pointer | None:
    """The pointer that a file with this content is; None for any other file."""
    match = _POINTER.fullmatch(content) if len(content) <= _LARGEST_POINTER else None
    return Pointer(match["oid"].decode(), int(match["size"])) if match else None


def is_oid(text: str) -> bool:
    """Whether the text is the SHA-256 of an object."""
    return _OID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The `.lfsconfig` of a commit: the address of another LFS server, and the globs of files to fetch, or not to fetch."""

    url: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @staticmethod
    def parse(content: bytes) -> Configuration:
        """Raises InvalidError for a file that git could not read either, TooLargeError for one that is too large."""
        file = configuration.read(CONFIGURATION, content)

        def value(name: str) -> str:
            try:
                return file.get((b"lfs",), name.encode()).decode("utf-8", "replace")
            except KeyError:
                return ""

        def globs(name: str) -> list[str]:
            return [part.strip().strip("/") for part in value(name).split(",") if part.strip()]

        return Configuration(value("url"), globs("fetchinclude"), globs("fetchexclude"))

    def wants(self, path: str) -> bool:
        """Whether the content of the file is to be fetched."""
        return (not self.include or _matches(path, self.include)) and not _matches(path, self.exclude)

    def foreign_host(self, url: str) -> str:
        """The host of the LFS server, if it is not the one of `url`; else empty. An address that is no URL names the host "of an invalid URL"."""
        own = urllib.parse.urlsplit(url).netloc
        try:
            named = urllib.parse.urlsplit(self.url).netloc.rpartition("@")[2]
        except ValueError:
            return "of an invalid URL"
        shown = "".join(character if character.isprintable() else "?" for character in named[:_LONGEST_HOST])
        return shown if named != own else ""


def _matches(path: str, globs: Sequence[str]) -> bool:
    # As in git's ignore files, the glob of a folder covers the files in it, and one without a slash the files of any folder.
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs for name in (above if "/" in glob else [*above, *parts]))


class Objects:
    """The LFS objects of the repository in the folder `repository`. Several threads may use them at once."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._objects = repository / "lfs" / "objects"
        self._temporary = repository / "lfs" / "tmp"

    def recover(self) -> None:
        """Remove what uploads have left that the death of a process ended. Call this while there are none."""
        for unfinished in self._temporary.glob("*"):
            unfinished.unlink()

    def any(self) -> bool:
        """Whether there is an object."""
        return next(self._objects.glob("*/*/*"), None) is not None

    def path(self, oid: str) -> Path:
        """The file of an object, which may not exist."""
        return self._objects / oid[:2] / oid[2:4] / oid

    def has(self, pointer: Pointer) -> bool:
        """Whether the object is there, with its size."""
        try:
            return self.path(pointer.oid).stat().st_size == pointer.size
        except FileNotFoundError:
            return False

    def add(self, oid: str, stream: IO[bytes], limit: int) -> None:
        """Store an object whole, or not at all; an equal one is replaced by itself.

        Raises InvalidError for bytes of another digest, TooLargeError beyond `limit` bytes, NotFoundError for a repository that was removed.
        """
        try:
            for folder in (self._repository / "lfs", self._temporary):
                # Without parents: a repository that was removed meanwhile stays so.
                folder.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
            unfinished = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    _receive(oid, stream, file, limit)
                target = self.path(oid)
                for folder in (self._objects, target.parents[1], target.parent):
                    folder.mkdir(exist_ok=True)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        except FileNotFoundError as error:
            raise errors.NotFoundError("the codeset was removed") from error

    def write(self, pointer: Pointer, output: IO[bytes]) -> None:
        """Copy an object to `output`. Raises PermanentError if the file on disk is not what its name claims."""
        digest = hashlib.sha256()
        with self.path(pointer.oid).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                output.write(block)
        if digest.hexdigest() != pointer.oid:
            raise errors.PermanentError(f"the stored content {pointer.oid} of Git LFS is damaged; restore a backup, or push it again")


def _receive(oid: str, stream: IO[bytes], file: IO[bytes], limit: int) -> None:
    digest, size = hashlib.sha256(), 0
    while block := stream.read(_BLOCK):
        size += len(block)
        if size > limit:
            raise errors.TooLargeError(f"the content has more than {limits.size(limit)}")
        digest.update(block)
        file.write(block)
    if digest.hexdigest() != oid:
        raise errors.InvalidError(f"the received content has the SHA-256 {digest.hexdigest()}, not {oid}; push again")
    file.flush()
    os.fsync(file.fileno())
