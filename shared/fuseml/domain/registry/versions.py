"""Versions and their order, by the semantic versioning specification (point 11).

The key of a version is a tuple. So is a cut, a point between versions: `(1, 3)` lies below 1.3.0 and all of its pre-releases, because a
tuple sorts before its extensions. Databases sort by byte forms of both, newest first: `sort_key` of a version, `sort_bound` of a cut.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from typing import Any

MAX_LENGTH = 256
"""Longest accepted version or constraint, in characters."""

# A mixed tuple: numbers, then the pre-release as (is a release, identifiers).
Cut = tuple[Any, ...]

BOTTOM: Cut = ()
TOP: Cut = (math.inf,)

IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({IDENTIFIERS}))?(?:\+{IDENTIFIERS})?")
_NEWEST_FIRST = bytes(range(255, -1, -1))


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version. A leading `v` and build metadata are ignored, missing parts are 0."""

    key: Cut
    text: str = field(compare=False)

    @property
    def prerelease(self) -> Cut:
        """(True, ()) of a release; (False, identifiers) of a pre-release."""
        return self.key[3:]

    @property
    def is_prerelease(self) -> bool:
        return not self.key[3]

    def __str__(self) -> str:
        return self.text


@functools.lru_cache(maxsize=8192)
def parse(text: str) -> Version | None:
    """The semantic version in `text`, or None."""
    match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
    suffix = prerelease(match[4]) if match else None
    if match is None or suffix is None:
        return None
    return Version((*(int(part or 0) for part in match.groups()[:3]), *suffix), text)


def prerelease(text: str | None) -> Cut | None:
    """The pre-release part of a key. None if a numeric identifier has a leading zero (specification, point 9)."""
    if text is None:
        return True, ()
    identifiers = text.split(".")
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in identifiers):
        return None
    return False, tuple((False, int(part), "") if part.isdigit() else (True, 0, part) for part in identifiers)


@functools.lru_cache(maxsize=8192)
def sort_key(text: str) -> bytes:
    """The bytes that databases sort versions by, newest first. Equal versions have equal keys.

    Semantic versions come first, then other spellings in descending order of their text (newest date first), then the empty version.
    """
    version = parse(text)
    # The last byte makes no key a prefix of another, so that inverted bytes invert the order.
    key = b"\2" + _bytes(version.key) + b"\1" if version else b"\1" + text.encode() + b"\0"
    return key.translate(_NEWEST_FIRST)


def sort_bound(cut: Cut) -> bytes:
    """The bytes between the sort keys of the versions above the cut, which are smaller, and of those below it, which are greater."""
    # No part of a key begins with the inverse of this byte (`_bytes`).
    return (b"\2" + _bytes(cut)).translate(_NEWEST_FIRST) + b"\xff"


def _bytes(cut: Cut) -> bytes:
    """A cut as bytes in the same order, oldest first. No part of it begins with a zero."""
    pieces = bytearray()
    for part in cut:
        match part:
            case bool():
                pieces += b"\2" if part else b"\1"
            case int():
                pieces += _number(part)
            case float():
                pieces += b"\xff"
            case _:
                for is_text, number, text in part:
                    pieces += b"\3" + text.encode() + b"\1" if is_text else b"\2" + _number(number)
                pieces += b"\1"
    return bytes(pieces)


def _number(number: int) -> bytes:
    size = max(1, (number.bit_length() + 7) // 8)
    return bytes([size]) + number.to_bytes(size)
