"""Use cases of `events`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlmodel

from functions.events import explanation, timeline
from functions.events.deps import Deps
from fuseml.domain import errors, events
from fuseml.domain.documents import document
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import trace
from fuseml.store import deliveries, ledger, outbox, paging

# What led to an event that somebody sends by hand.
BY_HAND = ("/events", "send")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the ledger, and what became of it with each consumer."""

    row: ledger.LedgerEvent
    consumptions: Sequence[ledger.Consumption]


def page(deps: Deps, limit: int, cursor: str | None, *, type: str | None, dead: bool, **filters: str | None) -> paging.Slice[Entry]:
    """A page of events, newest first. `type` may be said in short."""
    with deps.store.read() as session:
        wanted = events.full_type(type) if type else None
        found = ledger.page(session, paging.Page(limit, cursor), type=wanted, dead=dead, **filters)
        return paging.Slice(_entries(session, found.rows), found.next_cursor)


def get(deps: Deps, id: str, source: str | None) -> Entry:
    """Raises NotFoundError, ConflictError when the id is that of several events."""
    with deps.store.read() as session:
        return _entries(session, [ledger.find(session, id, source)])[0]


def _entries(session: sqlmodel.Session, rows: Sequence[ledger.LedgerEvent]) -> list[Entry]:
    became = ledger.consumptions(session, rows)
    return [Entry(row, became.get(row.sequence or 0, [])) for row in rows]


def why(deps: Deps, of: str, source: str | None) -> timeline.Answer:
    """Why something started or did not. Raises NotFoundError, ConflictError."""
    with deps.store.read() as session:
        return explanation.explain(session, of, source)


def replay(deps: Deps, id: str, source: str | None, *, everybody: bool) -> Entry:
    """Deliver an event again to those who have failed on it, or to `everybody`. Those who have handled it know it, and do nothing.

    Raises NotFoundError, and ConflictError where nobody has failed.
    """
    with deps.store.write() as session:
        row = ledger.find(session, id, source)
        revived = ledger.revive(session, row, time.time(), everybody=everybody, queued=deps.queued)
        if not revived and not everybody:
            raise errors.ConflictError(
                f"event {row.sequence} is no dead letter{_state(session, row)}; --all delivers it again all the same"
            )
        # The embedded broker knows the event and only looks at its queue again; another one delivers it to everybody.
        announced = outbox.add(session, [outbox.from_document(row.event)], clock.now())
    cloudevents.relay(deps.store, deps.publisher, announced)
    return get(deps, row.id, row.source)


def _state(session: sqlmodel.Session, row: ledger.LedgerEvent) -> str:
    [entry] = _entries(session, [row])
    told = [f"{item.consumer}: {item.state}" for item in entry.consumptions]
    return f" ({', '.join(told)})" if told else ""


def drop(deps: Deps, id: str, source: str | None) -> Entry:
    """Give up an event's dead letters. Raises NotFoundError, and ConflictError where there are none."""
    with deps.store.write() as session:
        row = ledger.find(session, id, source)
        if not ledger.drop(session, row):
            raise errors.ConflictError(f"event {row.sequence} is no dead letter{_state(session, row)}")
    return get(deps, row.id, row.source)


def send(deps: Deps, type: str, data: Mapping[str, Any], id: str | None) -> tuple[events.Event, bool]:
    """Publish an event of our own types. Returns it, and whether it is a duplicate, which changes nothing.

    Its id follows from what it says, unless one is given. Raises InvalidError for an unknown type, and data that do not fit it.
    """
    full = events.full_type(type)
    if full not in events.PAYLOADS:
        known = ", ".join(name.removeprefix(events.PREFIX).removesuffix(".v1") for name in sorted(events.PAYLOADS))
        raise errors.InvalidError(f"{type!r} is not a type of FuseML's events; they are {known}")
    payload = document.validate(events.PAYLOADS[full], dict(data), kind=f"data of {full}")
    event = events.event(payload, clock.now(), {**trace.outgoing(), **events.caused_by(*BY_HAND)})
    event = dataclasses.replace(event, id=id or event.id)
    with deps.store.write() as session:
        known_already = deliveries.is_known(session, event)
        announced = outbox.add(session, [event], event.time)
    cloudevents.relay(deps.store, deps.publisher, announced)
    return event, known_already
