"""Events: the ledger, dead letters, and why something started or did not."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from fuseml.client import event_shapes, transport
from fuseml.domain import errors, times

# A server that is being restarted is back within this many seconds.
_PATIENCE = 30.0
# What became of an event is looked at for this many seconds after the newest one, and as long as it is pending, of so many events.
_WINDOW = datetime.timedelta(seconds=10)
_MOST = 200


class Events:
    """`/events` and `/why`. An event is named by its number or its id, which may need its `source`."""

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
        """Events that match all that is given, newest first; dead letters only, if `dead`. `since` is an RFC 3339 time."""
        query = {"type": type, "subject": subject, "source": source, "since": since}
        return cast(Iterator[event_shapes.EventSummary], self._http.pages("/events/dead-letters" if dead else "/events", query, limit))

    def get(self, event: str, source: str | None = None) -> event_shapes.Event:
        """The event with its data. Raises NotFoundError, ConflictError when several have the id."""
        return cast(event_shapes.Event, self._http.get_object(transport.address("events", event), {"source": source}))

    def replay(self, event: str, source: str | None = None, *, everybody: bool = False) -> event_shapes.Event:
        """Deliver a dead letter again. ConflictError when it is none, unless `everybody` is to get the event again."""
        query = {"source": source, "all": "true" if everybody else None}
        return cast(event_shapes.Event, self._http.change("POST", transport.address("events", event, "replay"), query=query))

    def drop(self, event: str, source: str | None = None) -> event_shapes.Event:
        """Give up a dead letter for good. ConflictError when it is none."""
        path = transport.address("events", "dead-letters", event)
        return cast(event_shapes.Event, self._http.change("DELETE", path, query={"source": source}))

    def send(self, type: str, data: Mapping[str, object], id: str | None = None) -> event_shapes.PublishedEvent:
        """Publish an event of FuseML's own types. Raises InvalidError for data that do not fit."""
        document: dict[str, object] = {"type": type, "data": dict(data), **({"id": id} if id else {})}
        return cast(event_shapes.PublishedEvent, self._http.change("POST", "/events", document=document))

    def why(self, of: str, source: str | None = None) -> event_shapes.Explanation:
        """Why a run started, or what came of a commit or an event. Raises NotFoundError, ConflictError for the beginning of several."""
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
        """Events as they come, without end, oldest first; again when what became of one has changed.

        Begins with those since a time, or the `last` ones. One that was not yet delivered is yielded at the next look. A short absence
        of the server is waited out.
        """
        told: dict[int, str] = {}
        held: set[int] = set()
        answered, first = clock(), None
        limit = None if since else last
        while True:
            try:
                found = list(self.list(type=type, subject=subject, source=source, since=since, limit=limit)) if limit != 0 else []
            except errors.TemporaryError:
                if clock() - answered > _PATIENCE:
                    raise
            else:
                answered, limit = clock(), None
                # Looking back for what became of an event must not bring up what came before the first one shown.
                first = first if first is not None else min((event["number"] for event in found), default=0)
                found = [event for event in found if event["number"] >= first]
                for event in reversed(found):
                    number, outcome = event["number"], event["outcome"]
                    if outcome == "pending" and number not in told and number not in held:
                        held.add(number)
                    elif told.get(number) != outcome:
                        held.discard(number)
                        told[number] = outcome
                        yield event
                since = _next(found) or since or times.render(datetime.datetime.now(datetime.UTC))
                told = {event["number"]: told[event["number"]] for event in found if event["number"] in told}
            sleep(interval)


def _next(found: list[event_shapes.EventSummary]) -> str | None:
    """From when on to ask again: what is not settled, or new enough to become something else."""
    if not found:
        return None
    recent = times.render(times.parse(found[0]["received"]) - _WINDOW)
    return min([recent, *(event["received"] for event in found[:_MOST] if event["outcome"] == "pending")])
