"""Responses about retention, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import TypedDict


class RetentionPolicy(TypedDict):
    """The policy of a kind of a project: the newest versions of each name stay, and those of the last days."""

    project: str
    kind: str
    newest: int | None
    days: int | None
    by: str
    updated: str


class Fate(TypedDict):
    """An artifact, and whether it goes. One that stays has the cause, and a reason in words."""

    address: str
    goes: bool
    cause: str | None
    reason: str | None
    size: int | None
    created: str | None


class Fates(TypedDict):
    """The fates of artifacts, in the order of the request."""

    fates: list[Fate]
