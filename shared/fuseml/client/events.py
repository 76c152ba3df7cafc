"""Events: the ledger, dead letters, publishing, and explanations of runs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast
from urllib.parse import quote

from fuseml.client import event_shapes, transport
from fuseml.domain import errors, times

# `follow` retries for so many seconds while the server is unreachable; a restart takes less.
_RETRY = 30.0
# `follow` lists events again for their outcomes: those of this time before the newest one, and pending ones among the newest _MOST_PENDING.
_WINDOW = datetime.timedelta(seconds=10)
_MOST_PENDING = 200


def _address(event: str, *below: str) -> str:
    # Escaped twice: an id may hold a URL, and servers would read its slashes as those of the path.
    return transport.address("events", *below, quote(event, safe=""))


class Events:
    """`/events` and `/why`. An event is addressed by its number or its id; an id may need its `source`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        type: str | None = None,
        subject: str | None = None,
        source: str | None = None,
        since: str | None = None,
        dead: bool = False,
        limit: int | None = None,
    ) -> Iterator[event_shapes.EventSummary]:
        """Events that match all filters, newest first; only dead letters if `dead`. `since` is an RFC 3339 time."""
        query = {"type": type, "subject": subject, "source": source, "since": since}
        return cast(Iterator[event_shapes.EventSummary], self._http.pages("/events/dead-letters" if dead else "/events", query, limit))

    def get(self, event: str, source: str | None = None) -> event_shapes.Event:
        """The event with its data. Raises NotFoundError, ConflictError for an ambiguous id."""
        return cast(event_shapes.Event, self._http.get_object(_address(event), {"source": source}))

    def replay(self, event: str, source: str | None = None, *, all_consumers: bool = False) -> event_shapes.Event:
        """Deliver a dead letter again, or with `all_consumers` any event to all its consumers.

        Raises ConflictError when the event is not a dead letter.
        """
        query = {"source": source, "all": "true" if all_consumers else None}
        return cast(event_shapes.Event, self._http.change("POST", f"{_address(event)}/replay", query=query))

    def drop(self, event: str, source: str | None = None) -> event_shapes.Event:
        """Drop a dead letter; the event stays in the ledger. Raises ConflictError when the event is not a dead letter."""
        path = _address(event, "dead-letters")
        return cast(event_shapes.Event, self._http.change("DELETE", path, query={"source": source}))

    def send(self, type: str, data: Mapping[str, object], id: str | None = None) -> event_shapes.PublishedEvent:
        """Publish an event of a type of FuseML. Raises InvalidError for an unknown type and for invalid data."""
        document: dict[str, object] = {"type": type, "data": dict(data), **({"id": id} if id else {})}
        return cast(event_shapes.PublishedEvent, self._http.change("POST", "/events", document=document))

    def why(self, of: str, source: str | None = None) -> event_shapes.Explanation:
        """The causes of a run, or the outcomes of a commit or an event. Raises NotFoundError, ConflictError for an ambiguous prefix."""
        return cast(event_shapes.Explanation, self._http.get_object("/why", {"of": of, "source": source}))

    def follow(
        self,
        *,
        type: str | None = None,
        subject: str | None = None,
        source: str | None = None,
        since: str | None = None,
        last: int = 10,
        interval: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[event_shapes.EventSummary]:
        """New events without end, oldest first; an event is yielded again when its outcome changes.

        Starts with the events since a time, or with the `last` ones. A pending event is yielded with the next list. While the server is
        unreachable, the iterator retries for half a minute, then raises TemporaryError.
        """
        outcomes: dict[int, str] = {}
        pending: set[int] = set()
        last_response, first = clock(), None
        limit = None if since else last
        while True:
            try:
                events = list(self.list(type=type, subject=subject, source=source, since=since, limit=limit)) if limit != 0 else []
            except errors.TemporaryError:
                if clock() - last_response > _RETRY:
                    raise
            else:
                last_response, limit = clock(), None
                # The window before the newest event may contain events older than the first one yielded.
                first = first if first is not None else min((event["number"] for event in events), default=0)
                events = [event for event in events if event["number"] >= first]
                for event in reversed(events):
                    number, outcome = event["number"], event["outcome"]
                    if outcome == "pending" and number not in outcomes and number not in pending:
                        pending.add(number)
                    elif outcomes.get(number) != outcome:
                        pending.discard(number)
                        outcomes[number] = outcome
                        yield event
                since = _next(events) or since or times.render(datetime.datetime.now(datetime.UTC))
                outcomes = {event["number"]: outcomes[event["number"]] for event in events if event["number"] in outcomes}
            sleep(interval)


def _next(events: list[event_shapes.EventSummary]) -> str | None:
    """The start time of the next list: it contains pending events and recent ones, whose outcome may change."""
    if not events:
        return None
    recent = times.render(times.parse(events[0]["received"]) - _WINDOW)
    return min([recent, *(event["received"] for event in events[:_MOST_PENDING] if event["outcome"] == "pending")])
