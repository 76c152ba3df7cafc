"""Leftovers of a bucket: what killed uploads and deleted versions left, old enough that no upload can still want it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fuseml.artifactstores import manifest
from fuseml.artifactstores.layout import Keys, moment_and_digest
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.contents import Contents
    from fuseml.contents.port import Entry

STALE = 86400.0
"""Seconds after which contents without a version are leftovers. A commit takes nothing that is older than half of it."""

_LISTED = 1000


def discard(contents: Contents, keys: Keys, stale: float = STALE) -> int:
    """Delete the leftovers of one name that were written more than `stale` seconds ago; their number.

    Raises PermanentError, and deletes nothing, if the manifest of a version is damaged: the files that it names are unknown.
    """
    # Candidates first: what is written later is no candidate, and its manifest protects what it reuses.
    oldest = time.time() - stale
    old = [entry.key for entry in entries(contents, keys.files) if entry.modified < oldest]
    committed = {found[1] for entry in entries(contents, keys.versions) if (found := moment_and_digest(entry.key))}
    kept: set[str] = set()
    dropped: list[str] = []
    for entry in entries(contents, keys.manifests):
        digest = entry.key.rpartition("/")[2]
        if digest not in committed and entry.modified < oldest:
            dropped.append(entry.key)
        else:
            kept |= _files(contents, entry.key, digest)
    discarded = dropped + [key for key in old if key.rpartition("/")[2] not in kept]
    for key in discarded:
        contents.delete(key)
    return len(discarded)


def entries(contents: Contents, prefix: str) -> Iterator[Entry]:
    """All entries below a prefix, read by pages."""
    after = ""
    while page := contents.entries(prefix, after, _LISTED):
        yield from page
        after = page[-1].key


def _files(contents: Contents, key: str, digest: str) -> set[str]:
    try:
        text = b"".join(contents.get(key, limit=manifest.LARGEST))
    except errors.NotFoundError:
        return set()
    return {manifest.hexadecimal(file.digest) for file in manifest.decode(text, f"sha256:{digest}")}
