"""Version constraints whose meaning has changed since the original FuseML, which used version 1.5 of the Masterminds library.

That version read `1.2` as 1.2.0 behind most operators, kept the major number only behind `^0`, and let `!=` admit pre-releases.
"""

from __future__ import annotations

from collections.abc import Iterator

from fuseml.domain import errors
from fuseml.domain.registry import constraint

_BY_ITSELF = "compared each number by itself, and compares whole versions now"


def changes(text: str) -> list[str]:
    """For each term whose meaning has changed: the term with its former and its present meaning. A text that is no constraint has none."""
    try:
        terms = constraint.terms(text)
    except errors.InvalidError:
        return []
    return [f"{term.operator}{term.partial} {change}" for term in terms for change in _changes(term)]


def _changes(term: constraint.Term) -> Iterator[str]:
    numbers = term.numbers
    floor, prefix = _version((*numbers, 0, 0, 0)[:3]), _version(numbers)
    match term.operator, len(numbers):
        case "!=" | "<" | "<=" | "=<" | ">" | "^", 0:
            yield "compared with 0.0.0, and reads the wildcard as every version now; leave it out"
        case "" | "=" | "!=", 2 if not term.has_wildcard:
            yield f"meant {floor}, and means every {prefix}.x now; write {floor} for the former meaning"
        case "<=" | "=<" | "-", 2 if not term.has_wildcard:
            yield f"excluded {prefix}.1, and includes every {prefix}.x now; write {floor} for the former meaning"
        case "<" | "<=" | "=<", 2 if term.has_wildcard:
            yield _BY_ITSELF
        case ">", 1 | 2:
            yield f"admitted all above {floor}, and admits only those above every {prefix}.x now; write >{floor} for the former meaning"
        case "<", 1:
            upper = _version((numbers[0] + 1, 0, 0))
            yield f"admitted {prefix}.x, too, and admits only those below {floor} now; write <{upper} for the former meaning"
        case "^", 2 | 3 if numbers[0] == 0:
            kept = numbers[:2] if numbers[1] or len(numbers) == 2 else numbers
            below = _version((*kept[:-1], kept[-1] + 1, 0)[:3])
            yield f"admitted all below 1.0.0, and admits only those below {below} now; write >={floor}, <1.0.0 for the former meaning"
        case "~" | "~>", 2 if numbers == (0, 0) and not term.has_wildcard:
            yield "admitted every version, and admits only 0.0.x now; write * for the former meaning"
    if term.operator == "!=" and len(numbers) > 1 and not term.has_wildcard and not term.names_prerelease:
        yield "admitted pre-releases, and admits them now only beside a term that names one, such as >=0.0.0-0"


def _version(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
