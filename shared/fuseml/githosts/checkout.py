"""Checkout of a commit. The tree is untrusted input: no file or link of it may lead outside the directory.

Links are created after all files, so that no file is written through a link. Then the operating system resolves each link: checking the
text of links alone would miss chains such as `up -> ..` with `out -> up/../secret`.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fuseml.domain import errors
from fuseml.githosts import history
from fuseml.githosts.large_files import LargeFiles, LfsServer
from fuseml.githosts.limits import Limits, size

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore

# `.git` in the spellings that some file systems take for it, as in git's own check (CVE-2014-9390, CVE-2019-1353).
_GIT = re.compile(rb"(?i:\.git|git~\d+)[ .]*(?::.*)?")
_LONGEST_LINK = 4096
_EXECUTABLE, _PLAIN = 0o755, 0o644


def write_tree(
    store: BaseObjectStore, tree: bytes, directory: Path, extra: Mapping[str, str], limits: Limits, lfs_server: LfsServer | None = None
) -> None:
    """Write `tree` into the new or empty `directory`, with the `extra` files (path -> text) that it does not contain.

    Submodules become empty directories, as in git before they are updated. Pointers of Git LFS become the objects of the `lfs_server`; without
    it they stay pointers. Raises InvalidError for names and links that lead outside and for objects that are missing, TooLargeError beyond
    the limits, ConflictError for a directory that is not empty.
    """
    from dulwich import errors as git_errors

    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise errors.ConflictError(f"{directory} is not empty; use an empty directory for the checkout")
    try:
        _write_entries(store, tree, directory, extra, limits, lfs_server)
    except (KeyError, git_errors.ObjectFormatException) as error:
        raise errors.InvalidError(f"the files of the commit are incomplete or unreadable on this git host: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        path = Path(error.filename).relative_to(directory)
        raise errors.InvalidError(f"the commit has two files of the name {path} on this file system; rename one") from error


def _write_entries(
    store: BaseObjectStore, tree: bytes, directory: Path, extra: Mapping[str, str], limits: Limits, lfs_server: LfsServer | None
) -> None:
    from dulwich import objects

    # All paths are judged before the first file is written.
    listed = list(history.entries(store, objects.ObjectID(tree), limits.files))
    entries = {_safe_path(path): (mode, sha) for path, mode, sha in listed}
    links: dict[Path, bytes] = {}
    large = LargeFiles(store, listed, lfs_server) if lfs_server else None
    written = 0
    for path, (mode, sha) in entries.items():
        target = directory / path
        if objects.S_ISGITLINK(mode):
            target.mkdir(parents=True, exist_ok=True)
            continue
        content = store[sha].as_raw_string()
        pointer = large.pointer(path, content) if large and stat.S_ISREG(mode) else None
        written += pointer.size if pointer else len(content)
        if written > limits.checkout:
            raise errors.TooLargeError(
                f"the files of the commit take more than {size(limits.checkout)} (FUSEML_CHECKOUT_MIB); keep data sets and models in an "
                "artifact store"
            )
        if stat.S_ISLNK(mode):
            links[target] = content
        else:
            write = functools.partial(lfs_server.objects.write, pointer) if lfs_server and pointer else functools.partial(_put, content)
            _write(target, write, _EXECUTABLE if mode & stat.S_IXUSR else _PLAIN)
    if large:
        large.expect_complete()
    for path, text in extra.items():
        if not any(Path(path).is_relative_to(entry) for entry in entries):
            _write(directory / path, functools.partial(_put, text.encode()), _PLAIN)
    _link(directory, links)


def _safe_path(path: bytes) -> str:
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part or _GIT.fullmatch(part) for part in parts):
        raise errors.InvalidError(
            f"the commit has the path {path.decode('utf-8', 'replace')!r}, which is not allowed in a checkout; rename or remove it"
        )
    return os.fsdecode(path)


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _write(target: Path, write: Callable[[IO[bytes]], None], mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Exclusive: names that are equal on this file system must neither overwrite one another nor be written through.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        write(file)
    target.chmod(mode)


def _link(directory: Path, links: Mapping[Path, bytes]) -> None:
    for link, content in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not content or b"\0" in content or len(content) > _LONGEST_LINK:
            raise errors.InvalidError(f"the target of the link {link.relative_to(directory)} is not a valid path")
        link.symlink_to(os.fsdecode(content))
    root = directory.resolve()
    escaping = [link for link in links if not Path(os.path.realpath(link)).is_relative_to(root)]
    if escaping:
        # All links are removed: another link may lead outside through one of these.
        for link in links:
            link.unlink()
        names = ", ".join(sorted(str(link.relative_to(directory)) for link in escaping))
        raise errors.InvalidError(f"links of the commit lead out of the codeset: {names}; use relative links to files of the codeset")
