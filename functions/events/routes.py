"""HTTP of `events`."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from functions.events import service, timeline
from functions.events.deps import Deps
from fuseml.domain import times
from fuseml.domain.documents import document
from fuseml.runtime import http


class Delivery(pydantic.BaseModel):
    """`state` is pending, done, dead (given up, with the last `error`) or dropped; `attempts` are those made, where known."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    consumer: str
    state: str
    attempts: int
    error: str | None


class Listing(pydantic.BaseModel):
    """`number` is its place in the ledger, and may stand for the id; `outcome` is the worst state of its deliveries, empty without any."""

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


class Sent(pydantic.BaseModel):
    """`duplicate`: an event of this source and id was there already, so nothing happens."""

    type: str
    source: str
    id: str
    subject: str | None
    duplicate: bool


class NewEvent(document.Model):
    """`type` may be said in short, `run.requested`. Without an `id` it follows from the data: the same fact told twice is one event."""

    type: str
    data: dict[str, Any] = {}
    id: Annotated[str, pydantic.Field(min_length=1, max_length=500)] | None = None


Source = Annotated[str | None, pydantic.Field(description="of the event, where its id alone is not unique")]


class EventQuery(http.PageQuery):
    type: Annotated[str | None, pydantic.Field(description="whole, in short (run.finished), or the beginning of it (run.*)")] = None
    subject: str | None = None
    source: str | None = None
    since: Annotated[pydantic.AwareDatetime | None, pydantic.Field(description="RFC 3339: only what came then or later")] = None


class One(http.Query):
    source: Source = None


class Replay(http.Query):
    source: Source = None
    all: Annotated[bool, pydantic.Field(description="also to those who have not failed")] = False


class Why(http.Query):
    of: Annotated[str, pydantic.Field(description="a run's name, a commit (7 or more hex digits), an event's id or number")]
    source: Source = None


# Slashes belong to ids; the number needs no escapes.
_ID = "<path:id>"


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/events", query=EventQuery, returns=[Listing])
    def list_events(query: EventQuery) -> http.Listed[Listing]:
        """List events, newest first, with what became of them. Ticks are listed only where `type` names them."""
        return _listed(query, dead=False)

    @api.route("GET", "/events/dead-letters", query=EventQuery, returns=[Listing])
    def list_dead_letters(query: EventQuery) -> http.Listed[Listing]:
        """List the events that could not be delivered to a consumer. They stay until they are replayed or dropped."""
        return _listed(query, dead=True)

    @api.route("DELETE", f"/events/dead-letters/{_ID}", query=One, returns=Event)
    def drop_dead_letter(id: str, query: One) -> Event:
        """Give up an event's dead letters; the event stays in the ledger."""
        return _shown(service.drop(deps, id, query.source))

    @api.route("POST", "/events", body=NewEvent, returns=Sent, status=202)
    def send_event(body: NewEvent) -> Sent:
        """Send one event of FuseML's own types."""
        event, duplicate = service.send(deps, body.type, body.data, body.id)
        return Sent(type=event.type, source=event.source, id=event.id, subject=event.subject, duplicate=duplicate)

    @api.route("GET", f"/events/{_ID}", query=One, returns=Event)
    def get_event(id: str, query: One) -> Event:
        """Show an event with its data; `id` may be its number."""
        return _shown(service.get(deps, id, query.source))

    @api.route("POST", f"/events/{_ID}/replay", query=Replay, returns=Event, status=202)
    def replay_event(id: str, query: Replay) -> Event:
        """Deliver a dead letter again."""
        return _shown(service.replay(deps, id, query.source, everybody=query.all))

    @api.route("GET", "/why", query=Why, returns=timeline.Answer)
    def explain(query: Why) -> timeline.Answer:
        """Tell which event started a run, and what came of a commit or an event, or why nothing did."""
        return service.why(deps, query.of, query.source)

    def _listed(query: EventQuery, *, dead: bool) -> http.Listed[Listing]:
        since = times.render(query.since) if query.since else None
        found = service.page(
            deps, query.limit, query.cursor, type=query.type, dead=dead, subject=query.subject, source=query.source, since=since
        )
        return http.Listed([Listing(**_fields(entry)) for entry in found.rows], found.next_cursor)


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


def _shown(entry: service.Entry) -> Event:
    return Event(**_fields(entry), data=entry.row.event["data"], extensions=entry.row.event["extensions"])
