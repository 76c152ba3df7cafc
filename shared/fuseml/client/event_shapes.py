"""Documents of `/events` and `/why`, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import Required, TypedDict


class EventDelivery(TypedDict):
    """The delivery of an event to one consumer; `state` is pending, done, dead or dropped."""

    consumer: str
    state: str
    attempts: int
    error: str | None


class EventSummary(TypedDict):
    """An event of the ledger as lists contain it."""

    number: int
    type: str
    source: str
    id: str
    subject: str | None
    time: str
    received: str
    outcome: str
    deliveries: list[EventDelivery]


class Event(EventSummary):
    """An event of the ledger with its data."""

    data: dict[str, object]
    extensions: dict[str, str]


class PublishedEvent(TypedDict):
    """A published event; `duplicate`: the ledger had it before."""

    type: str
    source: str
    id: str
    subject: str | None
    duplicate: bool


class Link(TypedDict, total=False):
    """A link of a chain of causes; `kind` is origin, event or run."""

    kind: Required[str]
    text: Required[str]
    time: str | None
    event: int | None
    run: str | None
    state: str | None


class Outcome(TypedDict, total=False):
    """An outcome of a chain; `state` is that of the run, or nothing, applied, pending, dead, dropped, refused, ignored, duplicate."""

    state: Required[str]
    reason: Required[str]
    run: str | None
    workflow: str | None
    event: int | None


class Timeline(TypedDict):
    """A chain of causes, first cause first, and its outcomes."""

    chain: list[Link]
    outcomes: list[Outcome]


class Explanation(TypedDict):
    """The explanation of a run, a commit or an event; `answer` is the summary in one sentence."""

    of: str
    kind: str
    answer: str
    stories: list[Timeline]
