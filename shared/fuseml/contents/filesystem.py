"""Contents in a folder: of the embedded server, and of a single machine.

A file is written in a folder of its own and renamed to its place. The first writer after a day deletes the files of killed processes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fuseml.contents.port import BLOCK, Entry, valid_key
from fuseml.domain import errors

_PARTIAL = ".partial"
_STALE = 86400.0
"""Seconds after which a partial file belongs to a dead process."""


class FileContents:
    """See `Contents`. The first `put` creates the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Contents.put`. Stored contents survive a power failure."""
        return self._store(key, blocks, Path.replace)

    def create(self, key: str, data: bytes) -> bool:
        """See `Contents.create`."""
        try:
            self._store(key, [data], _link)
        except _TakenError:
            return False
        return True

    def _store(self, key: str, blocks: Iterable[bytes], move: Callable[[Path, Path], object]) -> int:
        path, size = self._path(key), 0
        with _translated(key):
            partial = self._partials / os.urandom(16).hex()
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Closing writes too, and may be the first call that reports a full disk.
            with _translated(key), os.fdopen(descriptor, "wb") as file:
                for block in blocks:
                    size += file.write(block)
                file.flush()
                os.fsync(descriptor)
            with _translated(key):
                path.parent.mkdir(parents=True, exist_ok=True)
                move(partial, path)
                _sync(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return size

    def get(self, key: str, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """See `Contents.get`."""
        path, left = self._path(key), limit
        with _translated(key), path.open("rb") as file:
            file.seek(offset)
            while block := file.read(BLOCK if left is None else min(left, BLOCK)):
                left = None if left is None else left - len(block)
                yield block

    def size(self, key: str) -> int:
        """See `Contents.size`."""
        path = self._path(key)
        with _translated(key):
            if not path.is_file():
                raise FileNotFoundError
            return path.stat().st_size

    def delete(self, key: str) -> None:
        """See `Contents.delete`."""
        path = self._path(key)
        with _translated(key), contextlib.suppress(FileNotFoundError):
            path.unlink()

    def entries(self, prefix: str, after: str = "", limit: int = 1000) -> list[Entry]:
        """See `Contents.entries`. Of each folder on the way all names are read."""
        with _translated(prefix):
            return list(itertools.islice(_walk(self._path(prefix), f"{prefix}/", after), limit))

    def renew(self, key: str) -> bool:
        """See `Contents.renew`."""
        path = self._path(key)
        with _translated(key):
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
        return True

    def discard_unfinished(self, seconds: float) -> int:
        """See `Contents.discard_unfinished`."""
        with _translated(_PARTIAL):
            return _discard(self._root / _PARTIAL, seconds)

    def link(self, key: str, seconds: int) -> str:
        """A `file:` URL. It does not expire, and needs read access to the folder."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        path = self._root / valid_key(key)
        # A valid key cannot lead out, but a symbolic link in the folder could.
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise errors.PermanentError(f"the place of {key!r} in {self._root} is a symbolic link that leads out of it")
        return path

    @functools.cached_property
    def _partials(self) -> Path:
        folder = self._root / _PARTIAL
        folder.mkdir(parents=True, exist_ok=True)
        _discard(folder, _STALE)
        return folder


class _TakenError(Exception):
    """The key has contents."""


def _link(partial: Path, path: Path) -> None:
    """Move a file to a place that has none."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise _TakenError from None
    finally:
        partial.unlink()


def _walk(folder: Path, prefix: str, after: str) -> Iterator[Entry]:
    """The files below a folder in the order of their keys, in which a folder's name ends with a slash."""
    try:
        with os.scandir(folder) as found:
            names = sorted(f"{item.name}/" if item.is_dir(follow_symlinks=False) else item.name for item in found if item.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = prefix + name
        if key <= after and not after.startswith(key):
            continue
        if name.endswith("/"):
            yield from _walk(folder / name, key, after)
        elif key != after:
            with contextlib.suppress(FileNotFoundError):
                status = (folder / name).stat(follow_symlinks=False)
                yield Entry(key, status.st_size, status.st_mtime)


def _discard(folder: Path, seconds: float) -> int:
    """Delete the files of a folder that were last written more than `seconds` ago; their number."""
    count = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - seconds:
                path.unlink()
                count += 1
    return count


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Raise failures of the file system as FuseML's errors."""
    try:
        yield
    except FileNotFoundError:
        raise errors.NotFoundError(f"there are no contents under {key!r}") from None
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise errors.PermanentError(f"the folder of contents cannot keep {key!r}: {error.strerror}") from error
    except OSError as error:
        raise errors.TemporaryError(f"the folder of contents cannot be used for {key!r} now: {error.strerror}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
