"""Contents in an object store other than S3, over the few operations that each of them has (`Objects`).

An object appears whole or not at all. Objects above one part are uploaded in parts, one at a time, so memory holds one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuseml.contents.port import BLOCK, Entry, valid_key
from fuseml.domain import errors

PART = 8 << 20
"""Bytes of a part of an upload, and of one read."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object of a listing: its path behind the bucket, its bytes, and the time of its last write in Unix seconds."""

    path: str
    size: int
    modified: float


class Objects(Protocol):
    """The operations of an object store on one bucket. A path is that of an object in it.

    Calls raise FileNotFoundError for a missing object or bucket, and else what the client raises; `refusal` explains that.
    """

    at: str
    """The store, for messages, such as `the bucket 'data' of Google Cloud Storage`."""

    def read(self, path: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, as far as the object has them."""

    def write(self, path: str, data: bytes, *, new: bool) -> None:
        """Store the bytes; with `new` FileExistsError if the object exists, of concurrent calls for all but one."""

    def upload(self, path: str, parts: Iterator[bytes]) -> None:
        """Store an object of several parts of `PART` bytes and a last one. An error of `parts` leaves what was there before."""

    def find(self, path: str) -> Object:
        """An object."""

    def remove(self, path: str) -> None:
        """Delete an object."""

    def list(self, prefix: str, after: str, limit: int) -> Sequence[Object]:
        """The first `limit` objects whose paths begin with `prefix` and follow `after`, in the order of their bytes."""

    def touch(self, path: str) -> None:
        """Set the time of the last write."""

    def link(self, path: str, seconds: int) -> str:
        """A signed URL."""

    def refusal(self, error: Exception) -> errors.FusemlError | None:
        """An error of the client as FuseML's, with the remedy and without the answer of the server; None for a fault of the program."""


class ObjectContents:
    """See `Contents`: the keys are below `prefix` in the bucket of the objects."""

    def __init__(self, objects: Objects, prefix: str = "") -> None:
        self._objects = objects
        self._prefix = f"{prefix}/" if prefix else ""

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Contents.put`."""
        path, size = self._path(key), 0

        def counted(parts: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                size += len(part)
                yield part

        parts = _parts(blocks)
        first = next(parts, b"")
        with self._refusals("write", key, missing=False):
            if len(first) < PART:
                self._objects.write(path, first, new=False)
                return len(first)
            self._objects.upload(path, counted(_chained(first, parts)))
        return size

    def create(self, key: str, data: bytes) -> bool:
        """See `Contents.create`."""
        with self._refusals("write", key, missing=False):
            try:
                self._objects.write(self._path(key), data, new=True)
            except FileExistsError:
                return False
        return True

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """See `Contents.get`. Large contents are read in parts."""
        path, position, end = self._path(key), offset, None if limit is None else offset + limit
        if limit == 0:
            self.size(key)
        while end is None or position < end:
            wanted = PART if end is None else min(PART, end - position)
            with self._refusals("read", key):
                data = self._objects.read(path, position, position + wanted)
            for start in range(0, len(data), BLOCK):
                yield data[start : start + BLOCK]
            position += len(data)
            if len(data) < wanted:
                return

    def size(self, key: str) -> int:
        """See `Contents.size`."""
        with self._refusals("read", key):
            return self._objects.find(self._path(key)).size

    def delete(self, key: str) -> None:
        """See `Contents.delete`."""
        with self._refusals("delete", key), contextlib.suppress(FileNotFoundError):
            self._objects.remove(self._path(key))

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """See `Contents.entries`."""
        with self._refusals("list", prefix, missing=False):
            found = self._objects.list(f"{self._path(prefix)}/", self._path(after) if after else "", limit)
        return [Entry(item.path.removeprefix(self._prefix), item.size, item.modified) for item in found]

    def renew(self, key: str) -> bool:
        """See `Contents.renew`."""
        path = self._path(key)
        try:
            with self._refusals("renew", key):
                before = self._objects.find(path).modified
                self._objects.touch(path)
                return self._objects.find(path).modified > before
        except errors.NotFoundError:
            return False

    def discard_unfinished(self, seconds: float) -> int:
        """See `Contents.discard_unfinished`: none. These stores show no unfinished uploads, and delete them themselves after a week."""
        return 0

    def link(self, key: str, seconds: int) -> str:
        """A URL that the account signs. Raises PermanentError for an account that cannot sign."""
        with self._refusals("sign a link to", key):
            return self._objects.link(self._path(key), seconds)

    def _path(self, key: str) -> str:
        return f"{self._prefix}{valid_key(key)}"

    @contextlib.contextmanager
    def _refusals(self, verb: str, key: str, *, missing: bool = True) -> Iterator[None]:
        """Raise failures of the client as FuseML's errors; `missing`: the object may be missing, and else it is the bucket."""
        try:
            yield
        except errors.FusemlError:
            raise
        except FileNotFoundError:
            if missing:
                raise errors.NotFoundError(f"there are no contents under {key!r}") from None
            raise errors.PermanentError(f"there is no {self._objects.at.removeprefix('the ')}: create it, or correct the URL") from None
        except Exception as error:
            known = self._objects.refusal(error)
            if known is None:
                raise
            raise type(known)(f"{self._objects.at} does not {verb} {key!r}: {known.message}") from None


def refused(status: int, code: str, keys: str) -> errors.FusemlError:
    """The refusal of a server by its HTTP status; `code` is its name for it, `keys` are the keys of the record with the account."""
    if status in (401, 403):
        return errors.PermanentError(f"the account is refused ({code}): check {keys}, and the rights of the account")
    if status in (408, 429) or status >= 500:
        return errors.TemporaryError(f"it is busy ({code})")
    return errors.PermanentError(f"it refuses the call ({code})")


def _parts(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks as parts of `PART` bytes, the last one shorter, or empty behind a whole one."""
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) >= PART:
            yield bytes(held[:PART])
            del held[:PART]
    yield bytes(held)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from (part for part in rest if part)
