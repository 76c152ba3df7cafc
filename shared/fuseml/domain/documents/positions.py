"""Data that was read from a text, and where in the text each value stood: what mistakes are told by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parsed:
    """Plain data (dicts, lists, scalars) and the parser's mark of each value and key; without a text there are no marks."""

    data: object
    marks: Mapping[Path, Any] = field(default_factory=dict)

    def position(self, path: Path) -> Position | None:
        """1-based line and column of the value at `path`, or of the nearest parent that stands in the text."""
        while path and path not in self.marks:
            path = path[:-1]
        return of(self.marks[path]) if path in self.marks else None

    def positions(self) -> Iterator[tuple[Path, Position]]:
        """Every path that stands in the text, with its line and column."""
        return ((path, of(mark)) for path, mark in self.marks.items())


def of(mark: Any) -> Position:
    """1-based line and column of a parser's mark."""
    return mark.line + 1, mark.column + 1


def render_path(path: Path) -> str:
    """`("steps", 2, "image")` as people write it: `steps[2].image`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text
