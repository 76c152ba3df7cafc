"""Version constraints in the Masterminds syntax, version 3 semantics: `~1.10.0`, `^0.2.3`, `1.2.x`, `1.2 - 1.4.5`, `>=1.0, <2 || 3.x`
(infra/platform-facts.md 6.6).

Every comparator is one interval of the total order of versions; its ends are cuts (`domain.registry.versions`).
Three rules come from Masterminds alone and look odd: a pre-release satisfies only a group of comparators of which one names a
pre-release; `~0.0.0` admits everything; `!=4.1` leaves out the 4.1.x of its own pre-release only. Where that library breaks its own
documentation, for a lone `*` behind an operator or at an end of a hyphen range, the documentation wins: `*` is every version.

A version that is not semantic (`nightly`, `RELEASE.2021-06-17`) satisfies nothing but its own spelling.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.domain.registry import versions

_SUFFIX = rf"(?:-(?:{versions.IDENTIFIERS}))?(?:\+{versions.IDENTIFIERS})?"
_PARTIAL = rf"v?(?:[0-9]+|[xX*])(?:\.(?:[0-9]+|[xX*])){{0,2}}{_SUFFIX}"
_SPAN = re.compile(rf"({_PARTIAL})\s+-\s+({_PARTIAL})", re.ASCII)
_TERM = re.compile(rf"(!=|>=|=>|<=|=<|~>|[=<>~^])?\s*({_PARTIAL})", re.ASCII)
_AND = re.compile(r"\s*,\s*|\s+", re.ASCII)
_SPELLING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:@/-]*")


@dataclass(frozen=True, slots=True)
class _Comparator:
    """The versions from `low` up to, but without, `high`; or, `excluded`, all but those."""

    low: versions.Cut
    high: versions.Cut
    names_prerelease: bool = False
    excluded: bool = False
    only_prerelease: versions.Cut | None = None

    def admits(self, version: versions.Version) -> bool:
        within = self.low <= version.key < self.high
        if not self.excluded:
            return within
        return not within or (self.only_prerelease is not None and version.prerelease != self.only_prerelease)


@dataclass(frozen=True, slots=True)
class _Group:
    """Comparators joined by "and"."""

    comparators: tuple[_Comparator, ...]
    names_prerelease: bool

    def admits(self, version: versions.Version) -> bool:
        if version.is_prerelease and not self.names_prerelease:
            return False
        return all(comparator.admits(version) for comparator in self.comparators)

    @property
    def span(self) -> tuple[versions.Cut, versions.Cut]:
        """The interval that all comparators leave; exclusions are not seen."""
        within = [comparator for comparator in self.comparators if not comparator.excluded]
        lows, highs = [comparator.low for comparator in within], [comparator.high for comparator in within]
        return max(lows, default=versions.BOTTOM), min(highs, default=versions.TOP)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed constraint; `str()` gives the text it was read from."""

    text: str
    groups: tuple[_Group, ...]

    def check(self, version: versions.Version) -> bool:
        """Whether the version lies in one of the alternatives."""
        return any(group.admits(version) for group in self.groups)

    @property
    def hull(self) -> tuple[versions.Cut, versions.Cut] | None:
        """Cuts that enclose every version which satisfies it; None when none can."""
        spans = [span for group in self.groups if (span := group.span)[0] < span[1]]
        return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None

    @property
    def names_prerelease(self) -> bool:
        """Whether any alternative lets pre-releases in."""
        return any(group.names_prerelease for group in self.groups)

    def __str__(self) -> str:
        return self.text


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Constraint:
    """Read a constraint; the empty one means any release.

    Raises InvalidError that names the part which cannot be read.
    """
    if len(text) > versions.MAX_LENGTH:
        raise errors.InvalidError(f"the version constraint is {len(text)} characters long; {versions.MAX_LENGTH} are the limit")
    return Constraint(text.strip(), tuple(_group(text, part.strip()) for part in (text if text.strip() else "*").split("||")))


def _group(text: str, part: str) -> _Group:
    comparators = tuple(_comparators(text, part))
    return _Group(comparators, any(comparator.names_prerelease for comparator in comparators))


def _comparators(text: str, part: str) -> Iterator[_Comparator]:
    position = 0
    while True:
        if match := _SPAN.match(part, position):
            yield _comparator(text, ">=", match[1])
            yield _comparator(text, "<=", match[2])
        elif match := _TERM.match(part, position):
            yield _comparator(text, match[1] or "=", match[2])
        else:
            raise _malformed(text, f"cannot read {part[position:]!r}" if part else "there is nothing on one side of '||'")
        position = match.end()
        if position == len(part):
            return
        separator = _AND.match(part, position)
        if separator is None:
            raise _malformed(text, f"cannot read {part[position:]!r} behind {part[:position]!r}")
        position = separator.end()


def _comparator(text: str, operator: str, partial: str) -> _Comparator:
    numbers, prerelease = _partial(text, partial)
    floor: versions.Cut = (*numbers, *(0,) * (3 - len(numbers)), *prerelease)
    # Behind everything that the partial version covers: behind one key, or below the next 1.3, or 2, or at the very end.
    end: versions.Cut = (*floor, *versions.TOP) if len(numbers) == 3 else _next(numbers)
    named = not prerelease[0]
    match operator:
        case "=":
            return _Comparator(floor, end, named)
        case "!=":
            only = prerelease if len(numbers) >= 2 else None
            return _Comparator(floor if len(numbers) == 3 else numbers, end, named, excluded=True, only_prerelease=only)
        case ">":
            return _Comparator(end, versions.TOP, named)
        case "<":
            return _Comparator(versions.BOTTOM, floor, named)
        case ">=" | "=>":
            return _Comparator(floor, versions.TOP, named)
        case "<=" | "=<":
            return _Comparator(versions.BOTTOM, end, named)
        case "^":
            significant = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1) + 1
            return _Comparator(floor, _next(numbers[:significant]), named)
        case _:
            return _Comparator(floor, versions.TOP if numbers == (0, 0, 0) else _next(numbers[:2]), named)


def _partial(text: str, partial: str) -> tuple[tuple[int, ...], versions.Cut]:
    """The numbers before the first wildcard or missing part, and the pre-release part of the key."""
    core, _, suffix = partial.removeprefix("v").partition("+")[0].partition("-")
    prerelease = versions.prerelease(suffix or None)
    if prerelease is None:
        raise _malformed(text, f"{suffix!r} in {partial!r} has a number with a leading zero")
    numbers: list[int] = []
    for part in core.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers), prerelease


def _next(numbers: tuple[int, ...]) -> versions.Cut:
    """Below the first version whose leading numbers are greater than these."""
    return (*numbers[:-1], numbers[-1] + 1) if numbers else versions.TOP


def _malformed(text: str, reason: str) -> errors.InvalidError:
    message = f"{text!r} is not a version constraint: {reason}; write for example '~1.10.0', '^1.2', '1.x' or '>=1.2, <2 || >=3'"
    return errors.InvalidError(message)


def accept(wanted: str) -> str:
    """Return `wanted` if a selector may ask for it: a constraint, or the bare spelling of a version that is not semantic.

    Raises InvalidError for anything else, so that a malformed constraint is refused when it is written, not found to match nothing.
    """
    _wanted(wanted.strip())
    return wanted


@functools.lru_cache(maxsize=1024)
def _wanted(text: str) -> Constraint | None:
    """The constraint, or None when `text` can only be the exact spelling of a version."""
    try:
        return parse(text)
    except errors.InvalidError:
        if len(text) <= versions.MAX_LENGTH and _SPELLING.fullmatch(text):
            return None
        raise


def satisfies(version_text: str, constraint_text: str) -> bool:
    """Whether a registered version is what a selector asks for: the same text, or a semantic version inside the constraint.

    Raises InvalidError for a malformed constraint.
    """
    wanted = constraint_text.strip()
    if version_text == wanted:
        return True
    limits = _wanted(wanted)
    version = versions.parse(version_text)
    return limits is not None and version is not None and limits.check(version)


def explain(version_text: str, constraint_text: str) -> str:
    """The outcome of `satisfies` as a clause for people: `version 1.10.3 does not satisfy >=2.0`."""
    if satisfies(version_text, constraint_text):
        return f"version {version_text} satisfies {constraint_text}"
    if not version_text:
        return f"no version is registered, so {constraint_text} is not satisfied"
    refused = f"version {version_text} does not satisfy {constraint_text}"
    limits, version = _wanted(constraint_text.strip()), versions.parse(version_text)
    if limits is None:
        return f"{refused}, which is not a range and matches only this very spelling"
    if version is None:
        return f"{refused}: it is not a semantic version and matches only its own spelling"
    if version.is_prerelease and not limits.names_prerelease:
        return f"{refused}: it is a pre-release, and these are admitted only where the constraint names one (such as >=1.0-0)"
    return refused


def places(constraint_text: str) -> list[tuple[bytes, bytes]]:
    """Where to look for what `satisfies`: ranges (first place, place behind the last) outside of which no version can.

    Inside them only `satisfies` knows. Raises InvalidError for a malformed constraint.
    """
    wanted = constraint_text.strip()
    limits = _wanted(wanted)
    found: list[tuple[bytes, bytes]] = []
    if limits is not None and limits.hull is not None:
        low, high = limits.hull
        found.append((versions.edge(high), versions.edge(low)))
    if versions.parse(wanted) is None:
        # What is spelled like it satisfies it, although it is no semantic version.
        found.append((versions.place(wanted), versions.place(wanted) + b"\0"))
    return found
