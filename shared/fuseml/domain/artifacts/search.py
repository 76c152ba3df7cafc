"""The search for artifacts: the filters, and the patterns that hold them, `model://demo/*?format=mlflow&metrics.rmse<0.8`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import conditions, descriptor, names
from fuseml.domain.registry import constraint

_PLACE = re.compile(rf"({'|'.join(artifact.KINDS)})://(?:\*|([^/*?\n]+)/(\*|[^*?\n]+))")
_FRAMEWORK = re.compile(rf"({descriptor.FRAMEWORK})\s*(.*)", re.DOTALL)
_WORD = re.compile(r"[^&?\s](?:[^&?\n]*[^&?\s])?")
_MOST = 20
_EXAMPLES = "examples: model://demo/*, code://*, model://demo/*?format=mlflow&framework=scikit-learn>=1.4&metrics.rmse<0.8"


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework and a constraint on its version, in the Masterminds syntax; empty for any version, also an unknown one."""

    name: str
    versions: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.versions}" if self.versions[:1].isalnum() or self.versions[:1] == "*" else f"{self.name}{self.versions}"


def framework(text: str) -> Framework:
    """`scikit-learn`, `scikit-learn>=1.4`, `scikit-learn 1.x`. Raises InvalidError."""
    match = _FRAMEWORK.fullmatch(text.strip())
    if match is None:
        raise errors.InvalidError(f"{text[:100]!r} names no framework; examples: scikit-learn, scikit-learn>=1.4, 'torch 2.x'")
    if match[2]:
        constraint.accept(match[2])
    return Framework(match[1], match[2].strip())


@dataclass(frozen=True, slots=True)
class Search:
    """Filters; None and empty ones admit everything. An artifact must pass all of them."""

    kind: str | None = None
    project: str | None = None
    name: str | None = None
    type: str | None = None
    format: str | None = None
    framework: Framework | None = None
    tag: str | None = None
    labels: tuple[str, ...] = ()
    metrics: tuple[conditions.Condition, ...] = ()

    def __str__(self) -> str:
        """The pattern of the search, which needs a kind, and a project for a name."""
        place = f"{self.project}/{self.name or '*'}" if self.project else "*"
        return f"{self.kind}://{place}" + (f"?{self.filters}" if self.filters else "")

    @property
    def filters(self) -> str:
        """The filters of its pattern, without kind, project and name."""
        words = [f"{key}={value}" for key in _WORDS if (value := getattr(self, key))]
        return "&".join([*words, *(f"label={label}" for label in self.labels), *map(str, self.metrics)])

    @property
    def parts(self) -> list[Search]:
        """One search for each filter of its pattern."""
        words = [Search(**{key: value}) for key in _WORDS if (value := getattr(self, key))]
        return [*words, *(Search(labels=(label,)) for label in self.labels), *(Search(metrics=(one,)) for one in self.metrics)]

    def narrowed(self, other: Search) -> Search:
        """Both searches at once. Raises InvalidError where they name different values."""
        merged: dict[str, object] = {}
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if isinstance(one, tuple):
                merged[field.name] = tuple(dict.fromkeys([*one, *two]))
            elif one and two and one != two:
                raise errors.InvalidError(f"the search asks for the {field.name} {one} and for {two}; nothing is both")
            else:
                merged[field.name] = one or two
        return Search(**merged)  # type: ignore[arg-type]


EVERYTHING = Search()
"""Without filters."""
_WORDS = ("type", "format", "framework", "tag")


def shortfall(part: Search, descriptor: Mapping[str, object], metrics: Mapping[str, float]) -> str:
    """The reason for which an artifact does not pass `part`, one filter: the fact that it has in its place."""
    if part.metrics:
        name = part.metrics[0].metric
        return f"its {name} is {metrics[name]!r}" if name in metrics else f"it has no metric {name}"
    name = next((key for key in _WORDS if getattr(part, key)), "label")
    version = descriptor.get("framework_version") if name == "framework" else None
    found = f"{descriptor.get(name) or ''} {version or ''}".strip()
    return f"its {name} is {found}" if found else f"it has no such {name}"


def parse(text: str) -> Search:
    """The search that a pattern stands for. `*` stands for all projects and names, or for all names of a project. Raises InvalidError."""
    place, question, given = text.partition("?")
    match = _PLACE.fullmatch(place)
    if match is None or (question and not given):
        raise errors.InvalidError(f"{text[: artifact.LONGEST]!r} is not a pattern to search for; {_EXAMPLES}")
    kind, project, name = match.groups()
    found = Search(kind, project, None if name == "*" else name)
    return found.narrowed(filters(given)) if given else found


def filters(text: str) -> Search:
    """The search that the filters of a pattern stand for, `format=mlflow&metrics.rmse<0.8`. Raises InvalidError."""
    parts = text.split("&")
    if len(parts) > _MOST:
        raise errors.InvalidError(f"a pattern has at most {_MOST} filters, not {len(parts)}")
    found = Search()
    for part in parts:
        found = found.narrowed(_filter(part))
    return found


def _filter(text: str) -> Search:
    if text.strip().startswith("metrics."):
        return Search(metrics=(conditions.parse(text),))
    key, sign, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not sign or key not in (*_WORDS, "label") or not _WORD.fullmatch(value):
        known = ", ".join((*_WORDS, "label"))
        raise errors.InvalidError(f"{text[:100]!r} is not a filter; write one of {known} with =, or a condition such as metrics.rmse<0.8")
    match key:
        case "framework":
            return Search(framework=framework(value))
        case "tag":
            return Search(tag=names.check_tag(value))
        case "label":
            return Search(labels=(names.check_label(value),))
        case "type":
            return Search(type=value)
        case _:
            return Search(format=value)
