"""The files of one commit that git-lfs keeps: which they are, and which LFS objects are missing."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.domain import errors
from fuseml.githosts import lfs, limits

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore
    from dulwich.objects import ObjectID

_ATTRIBUTES = b".gitattributes"
_FILTER = b"filter=lfs"
"""The attribute of files that git-lfs keeps."""


@dataclass(frozen=True, slots=True)
class LfsServer:
    """The LFS server of the repository at `url`: its objects."""

    objects: lfs.Objects
    url: str


def uses_lfs(store: BaseObjectStore, entries: Iterable[tuple[bytes, int, ObjectID]]) -> bool:
    """Whether a file of attributes in any folder leaves files to git-lfs, as git reads them: links are none.

    `entries` are paths, modes and object ids of a commit. Raises KeyError for an incomplete commit.
    """
    # A set: one large file may stand in many folders.
    attributes = {object_id for path, mode, object_id in entries if stat.S_ISREG(mode) and path.rpartition(b"/")[2] == _ATTRIBUTES}
    return any(_FILTER in store[object_id].as_raw_string() for object_id in attributes)


class LargeFiles:
    """Of the commit with these `entries`: paths, modes and object ids. A commit that does not use Git LFS has none."""

    def __init__(self, store: BaseObjectStore, entries: Sequence[tuple[bytes, int, ObjectID]], lfs_server: LfsServer) -> None:
        self._server = lfs_server
        self._any = uses_lfs(store, entries)
        named = (object_id for path, mode, object_id in entries if path == lfs.CONFIGURATION.encode() and stat.S_ISREG(mode))
        own = next(named, None) if self._any else None
        self._configuration = lfs.Configuration.parse(store[own].as_raw_string()) if own else lfs.Configuration()
        self._missing: list[tuple[str, lfs.Pointer]] = []

    def pointer(self, path: str, content: bytes) -> lfs.Pointer | None:
        """The pointer that this file of the commit is, if its content is here and wanted. A missing one is noted."""
        pointer = lfs.pointer(content) if self._any else None
        if pointer is None or not self._configuration.wants(path):
            return None
        if not self._server.objects.has(pointer):
            self._missing.append((path, pointer))
            return None
        return pointer

    def expect_complete(self) -> None:
        """Raises InvalidError that names a missing content, and the way out."""
        if not self._missing:
            return
        path, pointer = self._missing[0]
        more = f", as are {len(self._missing) - 1} others" if len(self._missing) > 1 else ""
        elsewhere, url = self._configuration.foreign_host(self._server.url), self._server.url
        push = f"git lfs push --all {url}"
        if elsewhere:
            way = f"{lfs.CONFIGURATION} names the server {elsewhere}, which is not asked; push with `git -c lfs.url={url}/info/lfs {push[4:]}`"
        else:
            way = f"push it with `{push}`, or exclude it by lfs.fetchexclude in {lfs.CONFIGURATION}"
        raise errors.InvalidError(f"the content of {path} ({limits.size(pointer.size)}, Git LFS) is missing on this git host{more}: {way}")
