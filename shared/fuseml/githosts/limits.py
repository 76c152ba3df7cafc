"""Bounds of what a repository may make the server do. A pack of a few kilobytes can describe terabytes."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """`object` and `pack` are bytes of one inflated object and of all of a push; `memory` bytes that a push's deltas may need at once.

    `objects` counts the objects of a push. `files` and `checkout` bound a checkout: its files with folders, and its bytes.
    """

    object: int = 100 * MIB
    pack: int = 8192 * MIB
    memory: int = 512 * MIB
    objects: int = 1_000_000
    files: int = 200_000
    checkout: int = 16_384 * MIB


DEFAULT = Limits()


def size(count: int) -> str:
    """A number of bytes for people: `1.5 MiB`."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "bytes" else f"{count} bytes"
