"""Version constraints in the Masterminds syntax, version 3 semantics: `~1.10.0`, `^0.2.3`, `1.2.x`, `1.2 - 1.4.5`, `>=1.0, <2 || 3.x`
(infra/platform-facts.md 6.6).

Each comparator is an interval of the total order of versions; its ends are cuts (`domain.registry.versions`).
Three rules are specific to Masterminds: a pre-release satisfies a group of comparators only if one of them names a pre-release;
`~0.0.0` admits every version; `!=4.1` excludes only the 4.1.x with the same pre-release part, here none.
Where the library contradicts its documentation (a lone `*` after an operator or in a hyphen range), the documentation decides: `*` is
every version.

A version that is not semantic (`nightly`, `RELEASE.2021-06-17`) satisfies only its own spelling.
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
    """The versions of the interval [`low`, `high`) or, if `excluded`, all others."""

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
        """The intersection of the intervals; exclusions are ignored."""
        within = [comparator for comparator in self.comparators if not comparator.excluded]
        lows, highs = [comparator.low for comparator in within], [comparator.high for comparator in within]
        return max(lows, default=versions.BOTTOM), min(highs, default=versions.TOP)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed constraint; `str()` returns its text."""

    text: str
    groups: tuple[_Group, ...]

    def check(self, version: versions.Version) -> bool:
        """Whether the version satisfies one of the alternatives."""
        return any(group.admits(version) for group in self.groups)

    @property
    def hull(self) -> tuple[versions.Cut, versions.Cut] | None:
        """The cuts around all versions that satisfy the constraint; None when no version can."""
        spans = [span for group in self.groups if (span := group.span)[0] < span[1]]
        return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None

    @property
    def names_prerelease(self) -> bool:
        """Whether any alternative admits pre-releases."""
        return any(group.names_prerelease for group in self.groups)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a constraint as it is written: the operator, `-` at the end of a hyphen range, and the numbers of its partial version before the
    first wildcard or missing one.
    """

    operator: str
    partial: str
    numbers: tuple[int, ...]
    has_wildcard: bool
    names_prerelease: bool


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Constraint:
    """Parse a constraint; the empty one admits every release.

    Raises InvalidError that names the malformed part.
    """
    if len(text) > versions.MAX_LENGTH:
        raise errors.InvalidError(f"the version constraint has {len(text)} characters; the limit is {versions.MAX_LENGTH}")
    return Constraint(text.strip(), tuple(_group(text, part.strip()) for part in _alternatives(text)))


def terms(text: str) -> list[Term]:
    """The terms of all alternatives of a constraint, in their order. Raises InvalidError as `parse` does."""
    parse(text)
    return [
        Term(operator, partial, numbers, any(letter in partial.partition("-")[0] for letter in "xX*"), not prerelease[0])
        for part in _alternatives(text)
        for operator, partial in _terms(text, part.strip())
        for numbers, prerelease in [_partial(text, partial)]
    ]


def _alternatives(text: str) -> list[str]:
    return (text if text.strip() else "*").split("||")


def _group(text: str, part: str) -> _Group:
    spelled = {"": "=", "-": "<="}
    comparators = tuple(_comparator(text, spelled.get(operator, operator), partial) for operator, partial in _terms(text, part))
    return _Group(comparators, any(comparator.names_prerelease for comparator in comparators))


def _terms(text: str, part: str) -> Iterator[tuple[str, str]]:
    """Operator and partial version of each term; the end of a hyphen range has the operator `-`."""
    position = 0
    while True:
        if match := _SPAN.match(part, position):
            yield ">=", match[1]
            yield "-", match[2]
        elif match := _TERM.match(part, position):
            yield match[1] or "", match[2]
        else:
            raise _malformed(text, f"cannot read {part[position:]!r}" if part else "one side of '||' is empty")
        position = match.end()
        if position == len(part):
            return
        separator = _AND.match(part, position)
        if separator is None:
            raise _malformed(text, f"cannot read {part[position:]!r} after {part[:position]!r}")
        position = separator.end()


def _comparator(text: str, operator: str, partial: str) -> _Comparator:
    numbers, prerelease = _partial(text, partial)
    floor: versions.Cut = (*numbers, *(0,) * (3 - len(numbers)), *prerelease)
    # The cut above all versions of the partial one: above one key, below the next 1.3 or 2, or the top.
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
    """The cut below the first version with greater leading numbers."""
    return (*numbers[:-1], numbers[-1] + 1) if numbers else versions.TOP


def _malformed(text: str, reason: str) -> errors.InvalidError:
    message = f"{text!r} is not a version constraint: {reason}; examples: '~1.10.0', '^1.2', '1.x', '>=1.2, <2 || >=3'"
    return errors.InvalidError(message)


def accept(text: str) -> str:
    """Return `text` if it is a constraint, or the spelling of a version that is not semantic.

    Raises InvalidError otherwise: a malformed constraint is refused with its document instead of matching nothing later.
    """
    _limits(text.strip())
    return text


@functools.lru_cache(maxsize=1024)
def _limits(text: str) -> Constraint | None:
    """The constraint, or None when `text` is the spelling of a version that is not semantic."""
    try:
        return parse(text)
    except errors.InvalidError:
        if len(text) <= versions.MAX_LENGTH and _SPELLING.fullmatch(text):
            return None
        raise


def satisfies(version_text: str, constraint_text: str) -> bool:
    """Whether a registered version satisfies a selector's constraint: equal text, or a semantic version within the constraint.

    Raises InvalidError for a malformed constraint.
    """
    spelling = constraint_text.strip()
    if version_text == spelling:
        return True
    limits = _limits(spelling)
    version = versions.parse(version_text)
    return limits is not None and version is not None and limits.check(version)


def explain(version_text: str, constraint_text: str) -> str:
    """The result of `satisfies` as a clause: `version 1.10.3 does not satisfy >=2.0`."""
    if satisfies(version_text, constraint_text):
        return f"version {version_text} satisfies {constraint_text}"
    if not version_text:
        return f"no version is registered, so {constraint_text} is not satisfied"
    refused = f"version {version_text} does not satisfy {constraint_text}"
    limits, version = _limits(constraint_text.strip()), versions.parse(version_text)
    if limits is None:
        return f"{refused}, which is not a range and matches only its own spelling"
    if version is None:
        return f"{refused}: it is not a semantic version and matches only its own spelling"
    if version.is_prerelease and not limits.names_prerelease:
        return f"{refused}: it is a pre-release; a constraint admits them only if it names one (such as >=1.0-0)"
    return refused


def sort_ranges(constraint_text: str) -> list[tuple[bytes, bytes]]:
    """Half-open ranges of sort keys outside of which no version satisfies the constraint; inside them `satisfies` decides.

    Raises InvalidError for a malformed constraint.
    """
    spelling = constraint_text.strip()
    limits = _limits(spelling)
    ranges: list[tuple[bytes, bytes]] = []
    if limits is not None and limits.hull is not None:
        low, high = limits.hull
        ranges.append((versions.sort_bound(high), versions.sort_bound(low)))
    if versions.parse(spelling) is None:
        # A version of the same spelling satisfies the constraint although it is not semantic.
        ranges.append((versions.sort_key(spelling), versions.sort_key(spelling) + b"\0"))
    return ranges
