"""Folders of this machine as artifacts: the files of one as sources, and an artifact as a new folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fuseml.artifactstores import paths
from fuseml.artifactstores.port import ArtifactStore, Opened, Source
from fuseml.domain import errors
from fuseml.domain.artifact import Address

_BLOCK = 1 << 20


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def sources(place: Path, opener: Callable[[Path], IO[bytes]] = _open) -> list[Source]:
    """The regular files below a folder, or the one file, in the order of their paths. Empty folders are no part of an artifact.

    `opener` opens a file whenever its bytes are read: where others may replace files meanwhile, it is the one that follows no links.
    Raises InvalidError for links, devices and other files that are neither regular nor folders, and NotFoundError for a missing place.
    """
    if place.is_file() and not place.is_symlink():
        return [_source(place, place.name, opener)]
    if not place.is_dir():
        raise errors.NotFoundError(f"there is no file or folder {place}")
    found = sorted(_regular(place))
    if not found:
        raise errors.InvalidError(f"the folder {place} has no files; an artifact has at least one")
    return [_source(place / path, path, opener) for path in found]


def check_new(folder: Path) -> None:
    """Raises ConflictError unless the folder is a new or an empty one."""
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise errors.ConflictError(f"{folder} exists and is no empty folder; name another one")


def download(store: ArtifactStore, address: Address, folder: Path, watch: Callable[[Opened], Opened] = lambda opened: opened) -> Opened:
    """Write the files of an artifact into a new folder, or an empty one, which appears complete or not at all. `watch` may observe the bytes.

    Raises ConflictError for a folder that is not empty, InvalidError for paths that lead out of it, PermanentError for damaged contents.
    """
    check_new(folder)
    opened = watch(store.open(address))
    paths.check_paths(file.path for file in opened.files)
    with _written_to(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In the same file system. A new folder holds no link that leads out of it.
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:100]}."))
    try:
        fill(opened, unfinished)
        with _written_to(folder):
            unfinished.chmod(0o777 & ~_umask())
            unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return opened


def fill(opened: Opened, folder: Path) -> None:
    """Write the files of an artifact into an empty folder of the caller's own. Raises as `download`; a failure leaves a part of them."""
    paths.check_paths(file.path for file in opened.files)
    for file in opened.files:
        with _written_to(folder / file.path):
            _write(folder, opened, file.path, opened.read(file), 0o777 if file.executable else 0o666)


def _write(root: Path, opened: Opened, path: str, blocks: Iterator[bytes], mode: int) -> None:
    target = root / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise errors.InvalidError(f"this file system takes two files of {opened.address} for one: {path!r}") from None
    with os.fdopen(descriptor, "wb") as file:
        for block in blocks:
            file.write(block)


def _regular(place: Path) -> Iterator[str]:
    for at, folders, names in os.walk(place, onerror=_raise):
        for name in (*folders, *names):
            path = Path(at, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise errors.InvalidError(
                    f"{path.relative_to(place)} is a link or a special file; an artifact has regular files only: put the file itself there"
                )
        yield from (Path(at, name).relative_to(place).as_posix() for name in names)


def _source(path: Path, name: str, opener: Callable[[Path], IO[bytes]]) -> Source:
    def blocks() -> Iterator[bytes]:
        with opener(path) as file:
            while block := file.read(_BLOCK):
                yield block

    return Source(name, blocks, bool(path.stat().st_mode & stat.S_IXUSR))


def _raise(error: OSError) -> None:
    raise errors.PermanentError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _written_to(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.PermanentError(f"{path} cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
