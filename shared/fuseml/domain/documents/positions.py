"""Parsed data with the source position of each value, for problem reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]
Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Parsed:
    """Plain data (dicts, lists, scalars) with the parser's mark of each value; data without a source text has no marks.

    `lines_before` are those of the file before the marked text.
    """

    data: object
    marks: Mapping[Path, Any] = field(default_factory=dict)
    lines_before: int = 0

    def position(self, path: Path) -> Position | None:
        """1-based line and column of the value at `path`, or of its nearest parent in the text; None without a source text."""
        while path and path not in self.marks:
            path = path[:-1]
        return of(self.marks[path], self.lines_before) if path in self.marks else None

    def positions(self) -> Iterator[tuple[Path, Position]]:
        """Every path of the text with its line and column."""
        return ((path, of(mark, self.lines_before)) for path, mark in self.marks.items())


def of(mark: Any, lines_before: int = 0) -> Position:
    """1-based line and column of a parser's mark."""
    return lines_before + mark.line + 1, mark.column + 1


def render_path(path: Path) -> str:
    """The dotted form of a path: `("steps", 2, "image")` is `steps[2].image`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text
