"""Times as FuseML writes them: RFC 3339, UTC, microseconds, fixed width, so that text order is time order.

Times of other systems have other widths (Tekton writes whole seconds and nanoseconds); `normalize` gives them ours. Digits beyond
microseconds are cut. Times are read with their time zone: `parse` raises ValueError for text that is no RFC 3339 time.
"""

from __future__ import annotations

import datetime


def render(moment: datetime.datetime) -> str:
    """An aware datetime as `2026-11-21T02:41:41.123456Z`."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def render_seconds(moment: datetime.datetime) -> str:
    """An aware datetime in whole seconds, `2026-11-21T03:00:00Z`: scheduled minutes are published so."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_unix(seconds: float) -> str:
    """The time of so many Unix seconds."""
    return render(datetime.datetime.fromtimestamp(seconds, datetime.UTC))


def parse(time: str) -> datetime.datetime:
    """The datetime of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(time)


def normalize(time: str) -> str:
    """An RFC 3339 time of any width and zone, as FuseML writes it."""
    return render(parse(time))


def unix(time: str) -> float:
    """Unix seconds of a time."""
    return parse(time).timestamp()


def shift(time: str, seconds: float) -> str:
    """The time so many seconds later; earlier for a negative number."""
    return render(parse(time) + datetime.timedelta(seconds=seconds))


def between(start: str, end: str) -> float:
    """Seconds from `start` to `end`."""
    return (parse(end) - parse(start)).total_seconds()
