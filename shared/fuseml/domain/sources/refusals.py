"""The faults of the files of a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuseml.domain import errors, inert_text
from fuseml.domain.documents import document

MOST = 50
_LONGEST = 500

Locate = Callable[[str], document.Position]
"""From a rendered path, `services[0].id`, to line and column of its value, or of the nearest parent in the file."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The fault of a file, or of the whole source where `file` is empty; line and column are 1-based, 0 where they are not known."""

    file: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = self.file + (f", line {self.line}" if self.line else "")
        return f"{place}: {self.message}" if place else self.message


def cut(refusals: Sequence[Refusal]) -> list[Refusal]:
    """The first refusals; the others are counted."""
    listed = list(refusals[:MOST])
    if len(refusals) > MOST:
        listed.append(Refusal("", f"there are {len(refusals) - MOST} more faults"))
    return listed


def of_error(path: str, error: errors.FusemlError, locate: Locate) -> list[Refusal]:
    """The faults that an error reports about a file; more than can be listed are left out."""
    problems = error.problems if isinstance(error, errors.InvalidError) else ()
    return [
        Refusal(path, short(_sentence(item)), *((item.line, item.column or 0) if item.line else locate(item.path)))
        for item in problems[: MOST + 1]
    ] or [Refusal(path, short(error.message), *locate(""))]


def _sentence(problem: errors.Problem) -> str:
    return str(errors.Problem(problem.path, problem.message, suggestion=problem.suggestion))


def short(text: str) -> str:
    """The text as it is shown: inert, and cut."""
    shown = inert_text.visible(text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
