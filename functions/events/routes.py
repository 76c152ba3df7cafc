"""HTTP of `events`."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

import pydantic

from functions.events import service, timeline
from functions.events.deps import Deps
from fuseml.domain import times
from fuseml.domain.documents import document
from fuseml.runtime import http, operations


class Delivery(pydantic.BaseModel):
    """`state` is pending, done, dead (given up, with the last `error`) or dropped; `attempts` counts the attempts, where known."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    consumer: str
    state: str
    attempts: int
    error: str | None


class Listing(pydantic.BaseModel):
    """`number` is the position in the ledger and an alias of the id; `outcome` is the worst state of the deliveries, empty without any."""

    number: int
    type: str
    source: str
    id: str
    subject: str | None
    time: str
    received: str
    outcome: str
    deliveries: list[Delivery]


class Event(Listing):
    data: dict[str, Any]
    extensions: dict[str, str]


class Receipt(pydantic.BaseModel):
    """`duplicate`: the ledger already held an event of this source and id, so nothing happens."""

    type: str
    source: str
    id: str
    subject: str | None
    duplicate: bool


class NewEvent(document.Model):
    """`type` may be short, `run.requested`. The default `id` is derived from the data: the same data twice is one event."""

    type: str
    data: dict[str, Any] = {}
    id: Annotated[str, pydantic.Field(min_length=1, max_length=500)] | None = None


Source = Annotated[str | None, pydantic.Field(description="source of the event, where its id alone is not unique")]


class EventQuery(operations.PageQuery):
    type: Annotated[str | None, pydantic.Field(description="full, short (run.finished), or a prefix (run.*)")] = None
    subject: str | None = None
    source: str | None = None
    since: Annotated[pydantic.AwareDatetime | None, pydantic.Field(description="RFC 3339: only events received then or later")] = None


class EventReference(operations.Query):
    source: Source = None


class Replay(operations.Query):
    source: Source = None
    all: Annotated[bool, pydantic.Field(description="also to consumers that have not failed")] = False


class Why(operations.Query):
    of: Annotated[str, pydantic.Field(description="a run's name, a commit (7 or more hex digits), an event's id or number")]
    source: Source = None


# Ids hold slashes and whole URLs, so that they are escaped twice in a path, as the URLs of endpoints are; the number needs no escapes.
_ID = "<path:id>"


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/events", query=EventQuery, returns=[Listing])
    def list_events(query: EventQuery) -> http.ListPage[Listing]:
        """List events, newest first, with their deliveries. Ticks are listed only where `type` names them."""
        return _listed(query, dead=False)

    @api.route("GET", "/events/dead-letters", query=EventQuery, returns=[Listing])
    def list_dead_letters(query: EventQuery) -> http.ListPage[Listing]:
        """List the events with a dead letter. They stay until they are replayed or dropped."""
        return _listed(query, dead=True)

    @api.route("DELETE", f"/events/dead-letters/{_ID}", query=EventReference, returns=Event, refusals=(409,))
    def drop_dead_letter(id: str, query: EventReference) -> Event:
        """Drop an event's dead letters; the event stays in the ledger."""
        return _event(service.drop(deps, urllib.parse.unquote(id), query.source))

    @api.route("POST", "/events", body=NewEvent, returns=Receipt, status=202)
    def send_event(body: NewEvent) -> Receipt:
        """Send one event of FuseML's own types."""
        event, duplicate = service.send(deps, body.type, body.data, body.id)
        return Receipt(type=event.type, source=event.source, id=event.id, subject=event.subject, duplicate=duplicate)

    @api.route("GET", f"/events/{_ID}", query=EventReference, returns=Event, refusals=(409,))
    def get_event(id: str, query: EventReference) -> Event:
        """Show an event with its data; `id` may be its number."""
        return _event(service.get(deps, urllib.parse.unquote(id), query.source))

    @api.route("POST", f"/events/{_ID}/replay", query=Replay, returns=Event, status=202, refusals=(409,))
    def replay_event(id: str, query: Replay) -> Event:
        """Deliver an event again to the consumers that failed on it."""
        return _event(service.replay(deps, urllib.parse.unquote(id), query.source, all=query.all))

    @api.route("GET", "/why", query=Why, returns=timeline.Answer, refusals=(404, 409))
    def explain(query: Why) -> timeline.Answer:
        """Explain a run by the event that started it, a commit or an event by its outcomes, or by the reason for none."""
        return service.why(deps, query.of, query.source)

    def _listed(query: EventQuery, *, dead: bool) -> http.ListPage[Listing]:
        since = times.render(query.since) if query.since else None
        entries = service.page(
            deps, query.limit, query.cursor, type=query.type, dead=dead, subject=query.subject, source=query.source, since=since
        )
        return http.ListPage([Listing(**_fields(entry)) for entry in entries.rows], entries.next_cursor)


_WORST = ("dead", "pending", "dropped", "done")


def _fields(entry: service.Entry) -> dict[str, Any]:
    row, states = entry.row, {item.state for item in entry.consumptions}
    return {
        "number": row.sequence,
        **{name: getattr(row, name) for name in ("type", "source", "id", "subject", "received")},
        "time": row.event["time"],
        "outcome": next((state for state in _WORST if state in states), ""),
        "deliveries": [Delivery.model_validate(item) for item in entry.consumptions],
    }


def _event(entry: service.Entry) -> Event:
    return Event(**_fields(entry), data=entry.row.event["data"], extensions=entry.row.event["extensions"])
