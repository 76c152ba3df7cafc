"""Times as the store and the API write them: RFC 3339, UTC, microseconds, fixed width, so that text order is time order."""

from __future__ import annotations

import datetime


def now() -> str:
    """The present moment, `2026-11-21T02:41:41.123456Z`."""
    return text(datetime.datetime.now(datetime.UTC))


def ago(seconds: float) -> str:
    """The moment so many seconds before now."""
    return text(datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds))


def fixed(time: str) -> str:
    """An RFC 3339 time of others, who may have cut or added digits, as ours are written."""
    return text(datetime.datetime.fromisoformat(time))


def ahead(seconds: float) -> str:
    """The moment so many seconds after now."""
    return ago(-seconds)


def seconds(time: str) -> float:
    """Unix seconds of an RFC 3339 time; fractions beyond microseconds (Tekton sends nanoseconds) are cut."""
    return datetime.datetime.fromisoformat(time).timestamp()


def text(moment: datetime.datetime) -> str:
    """A moment with a time zone, as the store writes it."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
