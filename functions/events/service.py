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
from fuseml.domain import errors, events, signature
from fuseml.domain.documents import document
from fuseml.runtime import clock, cloudevents
from fuseml.runtime.telemetry import trace
from fuseml.store import deliveries, ledger, outbox, paging

# Cause of an event that an administrator sends.
BY_HAND = ("/events", "send")


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the ledger, and its delivery to each consumer."""

    row: ledger.LedgerEvent
    consumptions: Sequence[ledger.Consumption]


def page(deps: Deps, limit: int, cursor: str | None, *, type: str | None, dead: bool, **filters: str | None) -> paging.Slice[Entry]:
    """A page of events, newest first. `type` may be short."""
    with deps.store.read() as session:
        full = events.full_type(type) if type else None
        rows = ledger.page(session, paging.Page(limit, cursor), type=full, dead=dead, **filters)
        return paging.Slice(_entries(session, rows.rows), rows.next_cursor)


def get(deps: Deps, id: str, source: str | None) -> Entry:
    """Raises NotFoundError, and ConflictError when several events have the id."""
    with deps.store.read() as session:
        return _entries(session, [ledger.find(session, id, source)])[0]


def _entries(session: sqlmodel.Session, rows: Sequence[ledger.LedgerEvent]) -> list[Entry]:
    consumptions = ledger.consumptions(session, rows)
    return [Entry(row, consumptions.get(row.sequence or 0, [])) for row in rows]


def why(deps: Deps, of: str, source: str | None) -> timeline.Answer:
    """The cause of a run, or the outcomes of a commit or an event. Raises NotFoundError, ConflictError."""
    with deps.store.read() as session:
        return explanation.explain(session, of, source)


def replay(deps: Deps, id: str, source: str | None, *, all: bool) -> Entry:
    """Deliver an event again to the consumers that failed on it, or to `all`. A consumer that handled it ignores the duplicate.

    Raises NotFoundError, and ConflictError when no consumer failed and `all` is false, or when the event is not proven to be FuseML's.
    """
    with deps.store.write() as session:
        row = ledger.find(session, id, source)
        if row.source.startswith(signature.UNPROVEN):
            raise errors.ConflictError(
                f"event {row.sequence} came without a valid signature, so anyone may have made it, and a replay would sign it; "
                "if its content is true, send that as an event of your own with `fuseml events send`"
            )
        revived = ledger.revive(session, row, time.time(), all=all, queued=deps.queued)
        if not revived and not all:
            raise errors.ConflictError(f"event {row.sequence} is no dead letter{_state(session, row)}; --all delivers it again anyway")
        # The embedded broker knows the event and only reads its queue again; other brokers deliver it to every consumer.
        enqueued = outbox.add(session, [signature.detach(outbox.from_document(row.event))], clock.now())
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return get(deps, row.id, row.source)


def _state(session: sqlmodel.Session, row: ledger.LedgerEvent) -> str:
    [entry] = _entries(session, [row])
    states = [f"{item.consumer}: {item.state}" for item in entry.consumptions]
    return f" ({', '.join(states)})" if states else ""


def drop(deps: Deps, id: str, source: str | None) -> Entry:
    """Drop an event's dead letters. Raises NotFoundError, and ConflictError when it has none."""
    with deps.store.write() as session:
        row = ledger.find(session, id, source)
        if not ledger.drop(session, row):
            raise errors.ConflictError(f"event {row.sequence} is no dead letter{_state(session, row)}")
    return get(deps, row.id, row.source)


def send(deps: Deps, type: str, data: Mapping[str, Any], id: str | None) -> tuple[events.Event, bool]:
    """Publish an event of FuseML's own types. Returns the event, and whether it is a duplicate, which changes nothing.

    The default id is derived from the data. Raises InvalidError for an unknown type, and for data that violate its schema.
    """
    full = events.full_type(type)
    if full not in events.PAYLOADS:
        types = ", ".join(name.removeprefix(events.PREFIX).removesuffix(".v1") for name in sorted(events.PAYLOADS))
        raise errors.InvalidError(f"{type!r} is not a type of FuseML's events; they are {types}")
    payload = document.validate(events.PAYLOADS[full], dict(data), kind=f"data of {full}")
    event = events.event(payload, clock.now(), {**trace.outgoing(), **events.caused_by(*BY_HAND)})
    event = dataclasses.replace(event, id=id or event.id)
    with deps.store.write() as session:
        duplicate = deliveries.is_known(session, event)
        enqueued = outbox.add(session, [event], event.time)
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return event, duplicate
