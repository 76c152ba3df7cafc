"""Leftovers of a bucket: files and manifests of killed uploads and deleted versions, too old for a present upload to need them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fuseml.artifactstores import manifest
from fuseml.artifactstores.layout import Keys, moment_and_digest
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.contents import Contents
    from fuseml.contents.port import Entry

STALE = 86400.0
"""Seconds after which contents without a version are leftovers. A commit takes nothing that is older than half of it."""

LEASE = 600.0
"""Seconds for which a mark of a discard counts. The discard itself ends within half of it; its next call continues."""

_LISTED = 1000


def discard(contents: Contents, keys: Keys, stale: float = STALE) -> int:
    """Delete the leftovers of one name that were written more than `stale` seconds ago; the number of deleted files and manifests.

    Raises PermanentError, and deletes nothing, if the manifest of a version is damaged: the files that it names are unknown.
    """
    now, started, count = time.time(), time.monotonic(), 0
    for mark in [entry.key for entry in entries(contents, keys.discards) if entry.modified < now - LEASE]:
        contents.delete(mark)
    old = [entry.key for entry in entries(contents, keys.files) if entry.modified < now - stale]
    if not (old or any(entry.modified < now - stale for entry in entries(contents, keys.manifests))):
        return 0
    # The mark comes before the list of manifests, and a commit looks for marks behind its manifest. So either the list has the manifest,
    # or the commit finds the mark, or this discard has ended, and the commit finds that files are missing.
    mark = keys.discard(secrets.token_hex(8))
    contents.create(mark, b"")
    try:
        for key in _discarded(contents, keys, old, now - stale):
            if time.monotonic() > started + LEASE / 2:
                break
            contents.delete(key)
            count += not key.startswith(f"{keys.moments}/")
    finally:
        contents.delete(mark)
    return count


def is_discarding(contents: Contents, keys: Keys, now: float) -> bool:
    """Whether a discard of the name may be deleting files now (Unix seconds)."""
    return any(entry.modified >= now - LEASE for entry in entries(contents, keys.discards))


def _discarded(contents: Contents, keys: Keys, old: Sequence[str], oldest: float) -> list[str]:
    """The keys to delete: manifests, then files, then moments. `old` are the files that are older than `oldest`."""
    committed = {found[1] for entry in entries(contents, keys.versions) if (found := moment_and_digest(entry.key))}
    kept: set[str] = set()
    present: set[str] = set()
    dropped: list[str] = []
    for entry in entries(contents, keys.manifests):
        digest = entry.key.rpartition("/")[2]
        if digest not in committed and entry.modified < oldest:
            dropped.append(entry.key)
        else:
            present.add(digest)
            kept |= _files(contents, entry.key, digest)
    files = [key for key in old if key.rpartition("/")[2] not in kept]
    moments = [entry.key for entry in entries(contents, keys.moments) if entry.key.rpartition("/")[2] not in committed | present]
    return dropped + files + moments


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
