"""Patterns of `.dockerignore`: files of the codeset that no instruction copies. Pure; the rules of Docker's `patternmatcher`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fuseml.steps import sdk

Rule = tuple[bool, "re.Pattern[str]"]
"""Whether the pattern takes files in again, and the pattern, which also matches what is below a folder."""

OWN = (".git", ".fuseml")
"""Folders that a checkout may have and its commit does not: no image has them."""


def rules(text: str) -> list[Rule]:
    """The rules of a file, in order. The last one that matches decides."""
    found: list[Rule] = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        again = pattern.startswith("!")
        parts = [part for part in pattern.removeprefix("!").strip().split("/") if part not in ("", ".")]
        if parts:
            found.append((again, re.compile(f"{expression(parts)}(?:/.*)?", re.DOTALL)))
    return found


def expression(parts: Sequence[str]) -> str:
    """The regular expression of a path's pattern: `*` and `?` stay within a folder, `**` is any number of folders."""
    pieces: list[str] = []
    # Several of these in a row mean the same, and take far longer.
    kept = [part for number, part in enumerate(parts) if part != "**" or parts[number - 1 : number] != ["**"]]
    for number, part in enumerate(kept):
        is_last = number == len(kept) - 1
        if part == "**":
            pieces.append(".*" if is_last else "(?:.*/)?")
        else:
            pieces.append(_segment(part) + ("" if is_last else "/"))
    return "".join(pieces)


def _segment(part: str) -> str:
    found, position = "", 0
    while position < len(part):
        character = part[position]
        if character == "*":
            found += "[^/]*"
        elif character == "?":
            found += "[^/]"
        elif character == "[" and (end := part.find("]", position + 2)) > 0:
            found += _class(part[position + 1 : end])
            position = end
        elif character == "\\" and position + 1 < len(part):
            position += 1
            found += re.escape(part[position])
        else:
            found += re.escape(character)
        position += 1
    return found


def _class(inner: str) -> str:
    """The expression of `[inner]`. Raises StepError for a range that is none."""
    negated = inner[0] in "^!" and len(inner) > 1
    listed = "".join("-" if character == "-" else re.escape(character) for character in (inner[1:] if negated else inner))
    found = f"(?!/)[{'^' if negated else ''}{listed}]"
    try:
        re.compile(found)
    except re.error:
        raise sdk.StepError(f"'[{inner[:40]}]' is no class of characters in a pattern of files") from None
    return found


def is_ignored(path: str, rules: Iterable[Rule]) -> bool:
    """Whether no instruction copies the file at a path of the codeset."""
    if path.partition("/")[0] in OWN:
        return True
    ignored = False
    for again, pattern in rules:
        if pattern.fullmatch(path):
            ignored = not again
    return ignored
