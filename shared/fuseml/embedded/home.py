"""The folder of the embedded server's state, private to its user whatever it was before."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Iterator

from fuseml.domain import errors

# Their own files hold no secrets by themselves, are many, and lie behind the folder's own mode.
_DEPTH = 2


def claim(path: pathlib.Path) -> pathlib.Path:
    """Make the folder, and it and its files private: folders 0700, files 0600, and so all that this process creates from now on.

    Returns its absolute path without links. Raises PermanentError when another user owns it or a part of it, or may replace it.
    """
    os.umask(0o077)
    home = expect_safe(path)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _expect_own(home)
        home.chmod(0o700)
        for entry in _entries(home, _DEPTH):
            _make_private(entry)
    except OSError as error:
        raise errors.PermanentError(
            f"{home} cannot be made private to this user: {error.strerror or error}; use --home for another folder"
        ) from error
    return home


def expect_safe(path: pathlib.Path) -> pathlib.Path:
    """The absolute path without links. Raises PermanentError when another user than root may put another folder in its place."""
    absolute = pathlib.Path(os.path.abspath(path))  # noqa: PTH100 - `absolute` keeps `..`, `resolve` follows the links to check
    for part in (*reversed(absolute.parents), absolute):
        try:
            status = part.lstat()
        except FileNotFoundError:
            break
        except OSError as error:
            raise errors.PermanentError(f"{part} cannot be used: {error.strerror}; use --home for another folder") from error
        _expect_trusted(part, status, absolute)
    resolved = absolute.resolve()
    if resolved != absolute:
        return expect_safe(resolved)
    if resolved.exists() and not resolved.is_dir():
        raise errors.PermanentError(f"{resolved} is a file, not a folder; use --home for another folder")
    return resolved


def _expect_trusted(part: pathlib.Path, status: os.stat_result, path: pathlib.Path) -> None:
    if status.st_uid not in (0, os.geteuid()):
        kind = "a link of" if stat.S_ISLNK(status.st_mode) else "owned by"
        raise errors.PermanentError(
            f"{part} is {kind} another user (uid {status.st_uid}), who could read or replace the secrets in {path}; "
            "use --home for a folder of your own, or change its owner"
        )
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX and part != path:
        raise errors.PermanentError(
            f"every user may replace folders in {part}, and so the secrets in {path}; use --home for another folder, or `chmod o-w {part}`"
        )


def _expect_own(path: pathlib.Path) -> None:
    owner = path.lstat().st_uid
    if owner != os.geteuid():
        raise errors.PermanentError(
            f"{path} is owned by another user (uid {owner}); use --home for a folder of your own, or change its owner: chown -R {os.geteuid()} {path}"
        )


def _entries(folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
    for entry in folder.iterdir():
        yield entry
        if depth > 1 and entry.is_dir() and not entry.is_symlink():
            yield from _entries(entry, depth - 1)


def _make_private(path: pathlib.Path) -> None:
    try:
        status = path.lstat()
        if status.st_uid != os.geteuid():
            _expect_own(path)
        if stat.S_ISDIR(status.st_mode):
            path.chmod(0o700)
        elif stat.S_ISREG(status.st_mode):
            # The owner's right to run a file stays.
            path.chmod(0o600 | status.st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return
