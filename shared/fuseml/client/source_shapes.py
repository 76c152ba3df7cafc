"""Documents of the API of sources, as dictionaries with known keys; a test holds them equal to the server's OpenAPI document."""

from __future__ import annotations

from typing import TypedDict


class Refusal(TypedDict):
    """The fault of a file; line and column are 0 where they are not known, `file` is empty for a fault of the whole source."""

    file: str
    message: str
    line: int
    column: int


class SourceChange(TypedDict):
    """The change of an item: created, updated, deleted, adopted or released. `by_hand`: it undoes a change by hand."""

    kind: str
    name: str
    effect: str
    file: str
    fields: list[str]
    by_hand: bool


class SourceItem(TypedDict):
    """An item of a source. `drifted`: it was changed or deleted by hand since."""

    kind: str
    name: str
    file: str
    adopted: bool
    drifted: bool


class Source(TypedDict):
    """A source: a codeset, or the repository at `url`. `state` is waiting, synced, refused or unreadable."""

    name: str
    project: str
    codeset: str
    url: str
    branch: str
    path: str
    state: str
    message: str
    commit: str
    seen: str
    checked: str
    synced: str
    by: str
    created: str
    items: int
    drifted: int


class SourceDetails(Source):
    """A source with its items, the faults of its files, and the changes of the last sync that made any."""

    contents: list[SourceItem]
    refusals: list[Refusal]
    changes: list[SourceChange]


class SourceDifference(TypedDict):
    """What a sync at `commit` would change, or why it would be refused."""

    commit: str
    changes: list[SourceChange]
    refusals: list[Refusal]
