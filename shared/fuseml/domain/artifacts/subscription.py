"""The patterns of assignments and triggers: the artifacts that start a workflow, `model://demo/*?format=mlflow&metrics.rmse<0.8`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import conditions, search

_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Subscription:
    """The artifacts at a place, a pattern without filters, that pass filters."""

    place: str
    filters: search.Search = search.EVERYTHING

    def __str__(self) -> str:
        return f"{self.place}?{self.filters.filters}" if self.is_filtered else self.place

    @property
    def kind(self) -> str:
        return self.place.partition(":")[0]

    @property
    def is_filtered(self) -> bool:
        return self.filters != search.EVERYTHING

    def narrowed(self, metrics: Sequence[conditions.Condition]) -> Subscription:
        """With further conditions."""
        return Subscription(self.place, self.filters.narrowed(search.Search(metrics=tuple(metrics))))

    def covers(self, kind: str, project: str, name: str) -> bool:
        """Whether an artifact of this kind, project and name is at the place."""
        return artifact.matches(self.place, kind, project, name)


def parse(text: str) -> Subscription:
    """The filters are those of a search, but for tags and labels. Raises InvalidError."""
    if len(text) > _LONGEST:
        raise errors.InvalidError(f"{text[:100]!r} ... has {len(text)} characters; the limit of a pattern is {_LONGEST}")
    place, question, filters = text.partition("?")
    found = Subscription(artifact.check_pattern(place), search.filters(filters) if question else search.EVERYTHING)
    if question and found.kind == "code":
        raise errors.InvalidError(f"{text!r} filters code, which has no such facts; select pushes by `on.push`")
    named = [*(["tag"] if found.filters.tag else []), *(["label"] if found.filters.labels else [])]
    if named:
        raise errors.InvalidError(f"{text!r} filters by {named[0]}, which an artifact gets later than it starts a workflow")
    return found


def stored(text: str) -> Subscription:
    """As `parse`; a text that a former release accepted as a place, with a question mark in a name, stays one."""
    try:
        return parse(text)
    except errors.InvalidError:
        return Subscription(text)
