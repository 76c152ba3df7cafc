"""The files of one commit whose contents git-lfs keeps: which they are, and which contents are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.domain import errors
from fuseml.githosts import lfs, limits

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore
    from dulwich.objects import ObjectID


@dataclass(frozen=True, slots=True)
class Kept:
    """The contents that git-lfs keeps for the repository at `url`."""

    contents: lfs.Contents
    url: str


class LargeFiles:
    """Of the commit with these `entries`: path -> mode and object id. A commit whose `.gitattributes` name no file has none."""

    def __init__(self, store: BaseObjectStore, entries: Mapping[str, tuple[int, ObjectID]], kept: Kept) -> None:
        self._kept = kept
        attributes = [object_id for path, (_, object_id) in entries.items() if path.rpartition("/")[2] == lfs.ATTRIBUTES]
        self._any = any(lfs.FILTER in store[object_id].as_raw_string() for object_id in attributes)
        own = entries.get(lfs.CONFIGURATION) if self._any else None
        self._configuration = lfs.Configuration.parse(store[own[1]].as_raw_string()) if own else lfs.Configuration()
        self._missing: list[tuple[str, lfs.Pointer]] = []

    def pointer(self, path: str, content: bytes) -> lfs.Pointer | None:
        """The pointer that this file of the commit is, if its content is here and wanted. A missing one is noted."""
        pointer = lfs.pointer(content) if self._any else None
        if pointer is None or not self._configuration.wants(path):
            return None
        if not self._kept.contents.has(pointer):
            self._missing.append((path, pointer))
            return None
        return pointer

    def expect_complete(self) -> None:
        """Raises InvalidError that names a missing content, and the way out."""
        if not self._missing:
            return
        path, pointer = self._missing[0]
        more = f", as are {len(self._missing) - 1} others" if len(self._missing) > 1 else ""
        elsewhere, url = self._configuration.foreign_host(self._kept.url), self._kept.url
        push = f"git lfs push --all {url}"
        if elsewhere:
            way = f"{lfs.CONFIGURATION} names the server {elsewhere}, which is not asked; push with `git -c lfs.url={url}/info/lfs {push[4:]}`"
        else:
            way = f"push it with `{push}`, or exclude it by lfs.fetchexclude in {lfs.CONFIGURATION}"
        raise errors.InvalidError(f"the content of {path} ({limits.size(pointer.size)}, Git LFS) is missing on this git host{more}: {way}")
