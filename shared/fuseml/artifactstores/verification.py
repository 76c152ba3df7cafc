"""Verification of contents while they are read: the last block is handed out only after all bytes proved to be the recorded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from fuseml.domain import errors

_ALGORITHMS = ("sha256", "md5")


def verified(blocks: Iterable[bytes], size: int, digest: str, subject: str) -> Iterator[bytes]:
    """The blocks. Raises PermanentError before the last one unless they have this size and digest (`sha256:...`, `md5:...`)."""
    algorithm, _, expected = digest.partition(":")
    if algorithm not in _ALGORITHMS:
        raise errors.PermanentError(
            f"{subject} cannot be verified: the digest {digest[:100]!r} is of no algorithm in {', '.join(_ALGORITHMS)}"
        )
    hashed, count, held = hashlib.new(algorithm, usedforsecurity=False), 0, b""
    for block in blocks:
        count += len(block)
        if count > size:
            break
        hashed.update(block)
        if held:
            yield held
        held = block
    if count != size or hashed.hexdigest() != expected:
        found = f"{algorithm}:{hashed.hexdigest()}" if count == size else f"{'more than ' if count > size else ''}{min(count, size)} bytes"
        recorded = digest if count == size else f"{size} bytes"
        raise errors.PermanentError(
            f"{subject} is damaged in the store: it has {found} instead of {recorded}; restore it, or write it again"
        )
    if held:
        yield held
