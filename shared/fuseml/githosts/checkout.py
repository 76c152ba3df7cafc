"""Writes the files of a commit. The tree is foreign input: whatever it holds, nothing is written or linked outside its directory.

Links are made after every file, so that no file can be written through one, and are then followed to their end by the
operating system: reading their text alone misses chains such as `up -> ..` with `out -> up/../secret`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.domain import errors

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore

_LONGEST_LINK = 4096
_EXECUTABLE, _PLAIN = 0o755, 0o644


def write_tree(store: BaseObjectStore, tree: bytes, directory: Path, extra: Mapping[str, str]) -> None:
    """Write `tree` into the new or empty `directory`, and the `extra` files (path -> text) that it does not bring itself.

    Submodules become empty directories, as in git. Raises InvalidError for names and links that lead out, ConflictError for a
    directory that holds something.
    """
    from dulwich import errors as git_errors
    from dulwich import object_store

    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise errors.ConflictError(f"{directory} is not empty: a commit is only written into a directory of its own")
    try:
        _write_entries(store, tree, directory, extra)
    except (KeyError, git_errors.ObjectFormatException, object_store.MaxTreeDepthExceeded) as error:
        raise errors.InvalidError(f"the files of the commit are not complete or not readable on this git host: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        taken = Path(error.filename).relative_to(directory)
        raise errors.InvalidError(f"the commit holds two things that are called {taken} on this file system") from error


def _write_entries(store: BaseObjectStore, tree: bytes, directory: Path, extra: Mapping[str, str]) -> None:
    from dulwich import object_store, objects

    entries = {_checked(entry.path or b""): entry for entry in object_store.iter_tree_contents(store, objects.ObjectID(tree))}
    links: dict[Path, bytes] = {}
    for path, entry in entries.items():
        target, mode = directory / path, entry.mode or 0
        if objects.S_ISGITLINK(mode):
            target.mkdir(parents=True, exist_ok=True)
            continue
        content = store[entry.sha].as_raw_string() if entry.sha else b""
        if stat.S_ISLNK(mode):
            links[target] = content
        else:
            _write(target, content, _EXECUTABLE if mode & stat.S_IXUSR else _PLAIN)
    for path, text in extra.items():
        if not any(Path(path).is_relative_to(taken) for taken in entries):
            _write(directory / path, text.encode(), _PLAIN)
    _link(directory, links)


def _checked(path: bytes) -> str:
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part or part.lower() == b".git" for part in parts):
        raise errors.InvalidError(f"the commit holds the path {path.decode('utf-8', 'replace')!r}, which no checkout may contain")
    return os.fsdecode(path)


def _write(target: Path, content: bytes, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Exclusive: names that differ only for git must neither overwrite one another nor be written through.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    target.chmod(mode)


def _link(directory: Path, links: Mapping[Path, bytes]) -> None:
    for link, content in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not content or b"\0" in content or len(content) > _LONGEST_LINK:
            raise errors.InvalidError(f"the link {link.relative_to(directory)} points to no valid path")
        link.symlink_to(os.fsdecode(content))
    root = directory.resolve()
    escaping = [link for link in links if not Path(os.path.realpath(link)).is_relative_to(root)]
    if escaping:
        # All of them: another link may lead out through one of these.
        for link in links:
            link.unlink()
        names = ", ".join(sorted(str(link.relative_to(directory)) for link in escaping))
        raise errors.InvalidError(f"links of the commit lead out of the codeset: {names}; link to files inside of it, with relative paths")
