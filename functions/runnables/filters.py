"""Filters of the list of runnables: the regular expressions of the original's API, as far as they take linear time."""

from __future__ import annotations

import re
from collections.abc import Callable

from fuseml.domain import errors

_LEGAL = re.compile(r"\^?(?:[^\\^$*+?()\[\]{}|]|\\.|\.\*)*\$?")
_LONGEST = 200


def matcher(field: str, text: str) -> Callable[[str], bool]:
    """Whether a value contains one of the alternatives of `text`: `predict|train`, `^ml-.*-gpu$`. Raises InvalidError for other operators.

    Only `|`, `.`, `.*`, `^` and `$` are operators: a server must not run an expression that takes exponential time.
    """
    alternatives = re.split(r"(?<!\\)\|", text)
    if len(text) > _LONGEST or not all(_LEGAL.fullmatch(part) for part in alternatives):
        message = f"{text[:100]!r} is not a filter: letters, digits, and the operators | . .* ^ $; others are written with a backslash"
        raise errors.InvalidError(f"{field}: {message}", [errors.Problem(field, message)])
    return lambda value: any(_contains(part, value) for part in alternatives)


def _contains(part: str, value: str) -> bool:
    """Whether the value contains the parts between `.*` in their order. Each is searched from the end of the one before, so time is linear."""
    starts, ends = part.startswith("^"), part.endswith("$") and not part.endswith("\\$")
    pieces = part.removeprefix("^").removesuffix("$" if ends else "").split(".*")
    position = 0
    for index, piece in enumerate(pieces):
        pattern = re.compile(piece, re.DOTALL)
        if ends and index == len(pieces) - 1:
            # The last piece has a fixed length: each of its characters stands for one.
            start = len(value) - len(re.sub(r"\\(.)", r"\1", piece))
            return start >= position and (not (starts and index == 0) or start == 0) and pattern.fullmatch(value, start) is not None
        found = pattern.match(value, position) if starts and index == 0 else pattern.search(value, position)
        if found is None:
            return False
        position = found.end()
    return True
