"""Versions and their order, as the semantic versioning specification says (point 11); any other text is a version without an order of its own.

A version's key is a tuple; so is a cut, a point between versions: `(1, 3)` lies below 1.3.0 and below all of its pre-releases, because
a shorter tuple comes before everything that it begins. Both have a form as bytes, newest first, for databases (`place`, `edge`).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from typing import Any

MAX_LENGTH = 256
"""Longest version or constraint that is read at all, in characters."""

# Mixed tuples: numbers, then the pre-release as (is a release, identifiers).
Cut = tuple[Any, ...]

BOTTOM: Cut = ()
TOP: Cut = (math.inf,)

IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-({IDENTIFIERS}))?(?:\+{IDENTIFIERS})?")
_NEWEST_FIRST = bytes(range(255, -1, -1))


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version; the `v` and the build do not count, missing parts are 0."""

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
    """The version that `text` spells, or None when it is not a semantic version."""
    match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
    found = prerelease(match[4]) if match else None
    if match is None or found is None:
        return None
    return Version((*(int(part or 0) for part in match.groups()[:3]), *found), text)


def prerelease(text: str | None) -> Cut | None:
    """The part of a key behind the numbers. None if a numeric identifier has a leading zero (specification, point 9)."""
    if text is None:
        return True, ()
    identifiers = text.split(".")
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in identifiers):
        return None
    return False, tuple((False, int(part), "") if part.isdigit() else (True, 0, part) for part in identifiers)


@functools.lru_cache(maxsize=8192)
def place(text: str) -> bytes:
    """Where a version stands among all, newest first: bytes that a database can sort by. Versions that are equal share a place.

    Behind the semantic versions stand the other spellings, the greater text first (dates sort right), and last what has no version.
    """
    version = parse(text)
    # The last byte keeps any place from being the beginning of another: so the order turns round with the bytes.
    key = b"\2" + _bytes(version.key) + b"\1" if version else b"\1" + text.encode() + b"\0"
    return key.translate(_NEWEST_FIRST)


def edge(cut: Cut) -> bytes:
    """What comes before the place of every version below the cut, and after the places of all others."""
    # No place goes on with this byte: see `_bytes`.
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
