"""References to runnables, `NAME` or `NAME@CONSTRAINT`, and the version that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import constraint, versions

_REFERENCE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]{0,99})(?:@(.+))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name, and a constraint on the version in the Masterminds syntax; empty for any release."""

    name: str
    versions: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.versions}" if self.versions else self.name

    def admits(self, version: str) -> bool:
        """Whether the version satisfies the constraint."""
        return constraint.satisfies(version, self.versions)


def parse(text: str) -> Reference:
    """Raises InvalidError with examples."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise errors.InvalidError(f"{text[:100]!r} is not a runnable; write its name, or with a constraint: trainer, trainer@^1.2")
    if match[2]:
        constraint.parse(match[2])
    return Reference(match[1], (match[2] or "").strip())


def newest(texts: Iterable[str]) -> str | None:
    """The highest of the versions; None without one."""
    return min(texts, key=versions.sort_key, default=None)


def choose(reference: Reference, texts: Iterable[str]) -> str | None:
    """The highest version that satisfies the constraint; None without one. A pre-release needs a constraint that names one."""
    return newest(text for text in texts if reference.admits(text))
