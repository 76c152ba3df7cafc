"""Sources of files that a store reads twice: first to know their digest, then to store them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fuseml.artifactstores.port import File, Source
from fuseml.domain import errors


def measured(source: Source) -> File:
    """The file of a source, with its bytes and SHA-256. Reads it once."""
    hashed, size = hashlib.sha256(), 0
    for block in source.blocks():
        hashed.update(block)
        size += len(block)
    return File(source.path, size, f"sha256:{hashed.hexdigest()}", source.executable)


def unchanged(source: Source, file: File) -> Iterator[bytes]:
    """The blocks again. Raises TemporaryError before the end, so that nothing is stored, if they differ from the measured ones."""
    hashed = hashlib.sha256()
    for block in source.blocks():
        hashed.update(block)
        yield block
    if f"sha256:{hashed.hexdigest()}" != file.digest:
        raise errors.TemporaryError(f"the file {source.path!r} changed while it was stored; store it when nothing writes to it")
