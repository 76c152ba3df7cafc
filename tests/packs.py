"""Packs of git objects, made by hand: no client makes those that lie about what they hold."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence


def number(value: int, first_bits: int, kind: int = 0) -> bytes:
    """A number of variable length; the first byte of an object holds its kind and four bits."""
    mask = (1 << first_bits) - 1
    parts = [kind << 4 | value & mask if first_bits == 4 else value & mask]
    value >>= first_bits
    while value:
        parts[-1] |= 0x80
        parts.append(value & 0x7F)
        value >>= 7
    return bytes(parts)


def entry(kind: int, content: bytes, declared: int | None = None, base: bytes = b"") -> bytes:
    return number(len(content) if declared is None else declared, 4, kind) + base + zlib.compress(content)


def pack(entries: Sequence[bytes], count: int | None = None) -> bytes:
    body = b"PACK" + struct.pack(">II", 2, len(entries) if count is None else count) + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def delta(base: int, result: int) -> bytes:
    return number(base, 7) + number(result, 7) + b"\x01x"


def back(distance: int) -> bytes:
    parts = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        parts.insert(0, 0x80 | distance & 0x7F)
    return bytes(parts)


def chain(depth: int, size: int, siblings: int) -> bytes:
    """A blob and deltas of the given result size: at each depth some siblings, of which the last has the next depth on it."""
    entries = [entry(3, bytes(size))]
    position, base = 12 + len(entries[0]), 12
    for _ in range(depth):
        for _ in range(siblings):
            below = position
            entries.append(entry(6, delta(size, size), base=back(position - base)))
            position += len(entries[-1])
        base = below
    return pack(entries)
