"""Paths of the files in an artifact: relative, with `/`, and such that no folder and no operating system takes them elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from fuseml.domain import errors

MOST_FILES = 200_000
_LONGEST = 1024
_LONGEST_PART = 255


def check_path(path: str) -> str:
    """The path. Raises InvalidError for one that leads out of a folder, or that some file system cannot hold."""
    parts = path.split("/")
    fault = ""
    if any(part in ("", ".", "..") for part in parts):
        fault = "it has an empty part, '.' or '..'"
    elif any(ord(character) < 32 or character in "\\\x7f" for character in path):
        fault = "it has a control character or a backslash"
    elif any("\ud800" <= character <= "\udfff" for character in path):
        fault = "it is no Unicode text"
    elif len(path.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        fault = f"it is longer than {_LONGEST} bytes, or a part of it than {_LONGEST_PART}"
    if fault:
        raise errors.InvalidError(f"{path[:200]!a} cannot be the path of a file in an artifact: {fault}")
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Raises InvalidError for an invalid path, for two equal ones, for one below another, and for more than `MOST_FILES`."""
    seen: set[str] = set()
    for path in paths:
        if check_path(path) in seen:
            raise errors.InvalidError(f"two files of the artifact have the path {path!r}")
        seen.add(path)
        if len(seen) > MOST_FILES:
            raise errors.InvalidError(f"an artifact holds at most {MOST_FILES} files; pack small ones together")
    for path in seen:
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in seen:
                raise errors.InvalidError(f"the artifact has a file {above!r} and another one below it, {path!r}")
