"""Verification of contents while they are read: the last block is handed out only after all bytes proved to be the recorded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import errors

_ALGORITHMS = ("sha256", "md5")


def verified(blocks: Iterable[bytes], size: int | None, digest: str, subject: str) -> Iterator[bytes]:
    """The blocks. Raises PermanentError before the last one unless they have this size, if known, and digest (`sha256:...`, `md5:...`)."""
    algorithm = digest.partition(":")[0]
    if algorithm not in _ALGORITHMS:
        raise errors.PermanentError(
            f"{subject} cannot be verified: the digest {digest[:100]!r} is of no algorithm in {', '.join(_ALGORITHMS)}"
        )
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    yield from _held(blocks, size, hashed, subject, lambda: _compare(f"{algorithm}:{hashed.hexdigest()}", digest, subject))


@dataclass(frozen=True, slots=True)
class Whole:
    """Files with one digest for all of them. `of` computes it from relative path -> SHA-256 (32 bytes); an empty `digest` is unknown."""

    digest: str
    paths: Sequence[str]
    of: Callable[[Mapping[str, bytes]], str]
    subject: str
    _found: dict[str, bytes] = field(default_factory=dict)

    def verified(self, blocks: Iterable[bytes], path: str, size: int | None) -> Iterator[bytes]:
        """The blocks of one file, each file once. Raises PermanentError before the last block of a file with another size, and before that of
        the last file unless all of them have the digest.
        """
        hashed = hashlib.sha256()

        def check() -> None:
            self._found[path] = hashed.digest()
            if self.digest and len(self._found) == len(self.paths):
                _compare(self.of(self._found), self.digest, self.subject)

        yield from _held(blocks, size, hashed, f"{path!r} of {self.subject}", check)


def _held(blocks: Iterable[bytes], size: int | None, hashed: hashlib._Hash, subject: str, check: Callable[[], None]) -> Iterator[bytes]:
    """The blocks, which go into `hashed`; the last one only after the comparison of the size and after `check`."""
    count, held = 0, b""
    for block in blocks:
        count += len(block)
        if size is not None and count > size:
            break
        hashed.update(block)
        # An empty block at the end must not hand out the one before it.
        if block:
            if held:
                yield held
            held = block
    _compare(_size(count, size), _size(size, size), subject)
    check()
    if held:
        yield held


def _size(count: int | None, size: int | None) -> str:
    if count is None or size is None:
        return ""
    return f"{'more than ' if count > size else ''}{min(count, size)} bytes"


def _compare(found: str, recorded: str, subject: str) -> None:
    if found != recorded:
        raise errors.PermanentError(
            f"{subject} is damaged in the store: it has {found} instead of {recorded}; restore it, or write it again"
        )
