"""What travels over `/events` and `/why`, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import TypedDict


class EventDelivery(TypedDict):
    """`state` is pending, done, dead or dropped."""

    consumer: str
    state: str
    attempts: int
    error: str | None


class Event(TypedDict, total=False):
    """An event of the ledger; lists come without `data` and `extensions`."""

    number: int
    type: str
    source: str
    id: str
    subject: str | None
    time: str
    received: str
    outcome: str
    deliveries: list[EventDelivery]
    data: dict[str, object]
    extensions: dict[str, str]


class SentEvent(TypedDict):
    type: str
    source: str
    id: str
    subject: str | None
    duplicate: bool


class Link(TypedDict, total=False):
    """One step of what led somewhere; `kind` is origin, event or run."""

    kind: str
    text: str
    time: str | None
    event: int | None
    run: str | None
    state: str | None


class Outcome(TypedDict, total=False):
    """What came of it; `state` is that of the run, or nothing, pending, dead, dropped, refused, ignored, duplicate."""

    state: str
    reason: str
    run: str | None
    workflow: str | None
    event: int | None


class Story(TypedDict):
    chain: list[Link]
    outcomes: list[Outcome]


class Explanation(TypedDict):
    """The answer to `why`; `answer` is the whole in one sentence."""

    of: str
    kind: str
    answer: str
    stories: list[Story]
