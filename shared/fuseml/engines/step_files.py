"""Files that the code of a step may have written, and is not trusted with.

A read never follows a link, never blocks on a FIFO, never opens a device, and never leaves its folder: each folder below the first is
opened relative to its parent, so a folder that is replaced by a link is refused, not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import IO

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a regular file",
}
_CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class WrongKindError(OSError):
    """A name that stands for a link, a FIFO, a socket, a device or a folder instead of a regular file, or for a file instead of a folder."""


def open_to_read(root: Path, *names: str) -> IO[bytes]:
    """The regular file at the path `names` below `root`. Raises WrongKindError, or another OSError when it cannot be read."""
    with contextlib.ExitStack() as folders:
        parent = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        folders.callback(os.close, parent)
        for name in names[:-1]:
            parent = _open(name, parent, os.O_RDONLY | os.O_DIRECTORY, stat.S_IFDIR)
            folders.callback(os.close, parent)
        return os.fdopen(_open(names[-1], parent, os.O_RDONLY, stat.S_IFREG), "rb")


def read(root: Path, *names: str, limit: int) -> bytes:
    """At most `limit` bytes of the regular file at the path `names` below `root`. Raises as `open_to_read`."""
    with open_to_read(root, *names) as file:
        return file.read(limit)


def open_to_append(path: Path) -> IO[bytes]:
    """The regular file `path`; a new one in place of a link, a FIFO or a socket. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _CAREFUL
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    descriptor = os.open(path, flags, 0o600)
    _check(path.name, descriptor, stat.S_IFREG)
    return os.fdopen(descriptor, "ab")


def create(path: Path, mode: int = 0o600) -> IO[bytes]:
    """A new file in place of an earlier one, a link, a FIFO or a socket. Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, mode)
    # Whatever the umask: a container may read a script as another user.
    os.fchmod(descriptor, mode)
    return os.fdopen(descriptor, "wb")


def _open(name: str, parent: int, flags: int, kind: int) -> int:
    # The kind is checked before, because to open a device can have effects, and after, because the name may be given to another file meanwhile.
    _expect(name, os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode, kind)
    descriptor = os.open(name, flags | _CAREFUL, dir_fd=parent)
    _check(name, descriptor, kind)
    return descriptor


def _check(name: str, descriptor: int, kind: int) -> None:
    try:
        _expect(name, os.fstat(descriptor).st_mode, kind)
    except WrongKindError:
        os.close(descriptor)
        raise


def _expect(name: str, mode: int, kind: int) -> None:
    if stat.S_IFMT(mode) != kind:
        raise WrongKindError(f"{name!r} is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not {_KINDS[kind]}")
