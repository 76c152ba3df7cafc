"""Verification of contents while they are read: the last block is handed out only after all bytes proved to be the recorded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from fuseml.domain import errors

_ALGORITHMS = ("sha256", "md5")


def verified(blocks: Iterable[bytes], size: int | None, digest: str, subject: str) -> Iterator[bytes]:
    """The blocks. Raises PermanentError before the last one unless they have this size, if known, and digest (`sha256:...`, `md5:...`)."""
    algorithm = digest.partition(":")[0]
    if algorithm not in _ALGORITHMS:
        raise errors.PermanentError(
            f"{subject} cannot be verified: the digest {digest[:100]!r} is of no algorithm in {', '.join(_ALGORITHMS)}"
        )
    hashed, count, held = hashlib.new(algorithm, usedforsecurity=False), 0, b""
    for block in blocks:
        count += len(block)
        if size is not None and count > size:
            break
        hashed.update(block)
        if held:
            yield held
        held = block
    if size is not None and count != size:
        found, recorded = f"{'more than ' if count > size else ''}{min(count, size)} bytes", f"{size} bytes"
    else:
        found, recorded = f"{algorithm}:{hashed.hexdigest()}", digest
    if found != recorded:
        raise errors.PermanentError(
            f"{subject} is damaged in the store: it has {found} instead of {recorded}; restore it, or write it again"
        )
    if held:
        yield held
