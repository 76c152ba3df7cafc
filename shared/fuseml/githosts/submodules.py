"""The submodules of a tree: codesets of this git host, or repositories of other hosts.

An address counts as git resolves it: relative to the address of the repository, or absolute on the same host and port.
"""

from __future__ import annotations

import posixpath
import stat
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.githosts import configuration, history

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore

MOST = 50
"""Submodules of one checkout that are codesets, nested ones included."""
_FILE = b".gitmodules"


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule: its path in the tree, its commit and address; the project and codeset are empty for another host."""

    path: str
    commit: str
    url: str
    project: str = ""
    codeset: str = ""


def found(store: BaseObjectStore, tree: bytes, clone_url: str, host_url: str, limit: int) -> Iterator[Submodule]:
    """The submodules of `tree` whose addresses are codesets of the host, or on another host. Raises InvalidError for an unreadable .gitmodules."""
    from dulwich import config, objects

    entries = {path: (mode, sha) for path, mode, sha in history.entries(store, objects.ObjectID(tree), limit)}
    links = {path: sha for path, (mode, sha) in entries.items() if objects.S_ISGITLINK(mode)}
    mode, sha = entries.get(_FILE, (0, None))
    if not links or sha is None or not stat.S_ISREG(mode):
        return
    modules = configuration.read(_FILE.decode(), store[sha].as_raw_string())
    # The last of several addresses of one path.
    for path, url in {path: url for path, url, _ in config.parse_submodules(modules)}.items():
        address = url.decode("utf-8", "replace")
        if path in links:
            names = _codeset(address, clone_url, host_url)
            if names is not None:
                yield Submodule(path.decode("utf-8", "surrogateescape"), links[path].decode(), address, *names)


def _codeset(url: str, clone_url: str, host_url: str) -> tuple[str, ...] | None:
    """Project and codeset of an address of this host, nothing for one of another host, None for one that is no codeset."""
    base, own = urllib.parse.urlsplit(host_url), urllib.parse.urlsplit(clone_url)
    if url.startswith(("./", "../")):
        path = posixpath.normpath(posixpath.join(own.path, url))
    else:
        try:
            given = urllib.parse.urlsplit(url)
        except ValueError:
            return ()  # no address of this host; the process that fetches from others reports it
        if given.netloc.rpartition("@")[2] != base.netloc.rpartition("@")[2]:
            return ()
        path = given.path.rstrip("/")
    prefix = base.path.rstrip("/") + "/"
    parts = path.removeprefix(prefix).removesuffix(".git").split("/")
    return (parts[0], parts[1]) if path.startswith(prefix) and len(parts) == 2 else None
