"""Credentials that a client expects as a file: key of the secret -> path of the file in a step.

A path is relative to a folder that the engine chooses and that only the step reads; the variable of the key holds the whole path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

MOST = 20
"""The largest number of files of one set of credentials."""

LONGEST = 200
"""Characters of a path."""

LARGEST = 65_536
"""Bytes of a file, which is kept like every secret: sealed, and in one Secret with all those of a run."""

_LARGEST_SEALED = 90_000
"""Characters of the sealed form of the largest file: a third more as base64, and the seal."""

_PART = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")


def path_fault(path: str) -> str:
    """The reason for which a text is no path of a file; empty for a path."""
    if len(path) > LONGEST:
        return f"must be a path of at most {LONGEST} characters"
    if path.startswith(("/", "~")):
        return "must be relative, such as gcloud/key.json: the engine chooses the folder, and the variable of the key holds the whole path"
    parts = path.split("/")
    if ".." in parts:
        return "must not lead out of its folder by '..'"
    # Kubernetes refuses a path that begins with two dots, and one part of dots only is no file.
    if not all(_PART.fullmatch(part) and part.strip(".") for part in parts) or path.startswith(".."):
        return "must be a relative path of letters, digits, '_', '-' and '.', such as gcloud/key.json"
    return ""


def faults(files: Mapping[str, str], configuration: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(key, reason) of each file that a set of credentials cannot have. The values of the configuration are sealed."""
    seen: dict[str, str] = {}
    for key, path in files.items():
        if key not in configuration:
            yield key, f"the credentials have no {key!r} in their configuration, of which a file could be made"
        elif other := next((key for placed, key in seen.items() if collide(placed, path)), None):
            yield key, f"the file {path!r} would be in the place of that of {other!r}; give it another path"
        elif len(configuration[key]) > _LARGEST_SEALED:
            yield key, f"a file of credentials has at most {LARGEST} bytes, and this one is larger"
        seen[path] = key


def collide(one: str, other: str) -> bool:
    """Whether two files cannot exist beside each other: they have one path, also where capitals do not count, or one is a folder of the other."""
    first, second = f"{one.casefold()}/", f"{other.casefold()}/"
    return first.startswith(second) or second.startswith(first)


def collision(files: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The first two names of files, each with its path, that cannot exist beside each other; None if all can."""
    for index, (name, path) in enumerate(files):
        for other, placed in files[:index]:
            if collide(placed, path):
                return other, name
    return None


def size_fault(key: str, text: str) -> str:
    """The reason for which a secret is too large for a file; empty otherwise."""
    size = len(text.encode(errors="surrogatepass"))
    return f"the file of {key!r} would have {size} bytes; a file of credentials has at most {LARGEST}" if size > LARGEST else ""
