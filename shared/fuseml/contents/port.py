"""The port of contents: what every store of contents does, and the keys that all of them accept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fuseml.domain import errors

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_LONGEST_KEY = 500

BLOCK = 1 << 18
"""Bytes of one read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a listing: its bytes, and the time of its last write in Unix seconds."""

    key: str
    size: int
    modified: float


class Contents(Protocol):
    """Stores bytes under keys such as `runs/1f0c/trainer.log`, as streams.

    Every call raises InvalidError for an invalid key, TemporaryError when the store cannot be reached or is busy, and PermanentError when
    the same call cannot succeed.
    """

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """Store the blocks in place of former contents. Returns the number of bytes.

        Atomic: no reader sees a part, also when the process dies or when `blocks` raises. That error is passed on.
        """

    def create(self, key: str, data: bytes) -> bool:
        """Store the bytes unless the key has contents; whether they were stored. Of concurrent calls exactly one stores."""

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """The bytes from `offset` on, at most `limit`, in blocks; none behind the end. Raises NotFoundError by the first block."""

    def size(self, key: str) -> int:
        """The number of bytes. Raises NotFoundError."""

    def delete(self, key: str) -> None:
        """Delete the contents, if any."""

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """The first `limit` keys that begin with `prefix` and a slash and follow the key `after`, in the order of their bytes."""

    def renew(self, key: str) -> bool:
        """Set the time of the last write to the present, without reading the bytes; whether it is later now.

        False without contents, from a server that cannot do it, and in the second of the last write.
        """

    def discard_unfinished(self, seconds: float) -> int:
        """Delete the invisible parts that writers began to store more than `seconds` ago and did not finish; their number."""

    def link(self, key: str, seconds: int) -> str:
        """A URL that needs no account for that many seconds; of a folder, one for this machine. Does not check that contents exist."""


def valid_key(key: str) -> str:
    """The key. Raises InvalidError for one that some store cannot keep, or that would lead out of a folder."""
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise errors.InvalidError(
            f"{key[:100]!r} cannot be a key of contents: parts of letters, digits, '_', '-' and '.', none of which begins with '-' or '.',"
            f" joined by '/', at most {_LONGEST_KEY} characters"
        )
    return key
