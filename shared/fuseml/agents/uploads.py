"""Files of uploads to a store agent, until they are written to the store: in a folder, under upload and SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuseml.artifactstores.port import File, Source
from fuseml.contents.filesystem import FileContents
from fuseml.domain import errors

STALE = 86400.0
"""Seconds after which the files of an unfinished upload are removed."""

_NAME = re.compile(r"[0-9a-f]{64}")


class Uploads:
    """The unfinished uploads in a folder, which no other process uses."""

    def __init__(self, folder: Path) -> None:
        self._contents = FileContents(folder)

    def sent(self, upload: str) -> list[str]:
        """The digests of the files that an upload has, in hexadecimal digits."""
        return [key.rpartition("/")[2] for key in self._keys(upload)]

    def put(self, upload: str, digest: str, blocks: Iterable[bytes]) -> None:
        """Keep a file. Raises InvalidError, and keeps nothing, unless its SHA-256 is `digest`."""
        self._contents.put(_key(upload, digest), _hashed(blocks, digest))

    def source(self, upload: str, file: File) -> Source:
        """A file of an upload for the store. Raises TemporaryError where it was not sent, or was removed since."""
        key = _key(upload, file.digest.removeprefix("sha256:"))
        with _present(file):
            self._contents.size(key)

        def blocks() -> Iterator[bytes]:
            with _present(file):
                yield from self._contents.get(key)

        return Source(file.path, blocks, file.executable)

    def drop(self, upload: str) -> None:
        """Remove the files of an upload."""
        for key in self._keys(upload):
            self._contents.delete(key)

    def drop_stale(self, now: float) -> None:
        """Remove the files of uploads that were not finished within a day (Unix seconds)."""
        after = ""
        while page := self._contents.entries("uploads", after):
            for entry in page:
                if entry.modified < now - STALE:
                    self._contents.delete(entry.key)
            after = page[-1].key
        self._contents.discard_unfinished(STALE)

    def _keys(self, upload: str) -> list[str]:
        found: list[str] = []
        while page := self._contents.entries(f"uploads/{_checked(upload)}", found[-1] if found else ""):
            found += [entry.key for entry in page]
        return found


@contextlib.contextmanager
def _present(file: File) -> Iterator[None]:
    try:
        yield
    except errors.NotFoundError:
        raise errors.TemporaryError(f"the file {file.path!r} of the upload is missing; send it again") from None


def _key(upload: str, digest: str) -> str:
    return f"uploads/{_checked(upload)}/{_checked(digest)}"


def _checked(name: str) -> str:
    """The name of an upload, or of a file. Raises InvalidError."""
    if not _NAME.fullmatch(name):
        raise errors.InvalidError(f"{name[:100]!r} is no SHA-256 in 64 hexadecimal digits")
    return name


def _hashed(blocks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    hashed = hashlib.sha256()
    for block in blocks:
        hashed.update(block)
        yield block
    if hashed.hexdigest() != digest:
        raise errors.InvalidError(
            f"the sent file has the SHA-256 {hashed.hexdigest()}, not {digest}; it changed on the way, or while it was read"
        )
