"""The ledger: the events that came, their delivery to each consumer, and replay.

`deliveries` (the embedded broker's queue) writes it, or on Knative the function `events`: there only dead letters have deliveries here, and
a consumption that succeeded is read from the consumer's own record of handled events.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors, events, signature
from fuseml.store import deliveries, paging
from fuseml.store.tables import outbox_rows
from fuseml.store.tables.ledger_rows import NO_TICK, Delivery, LedgerEvent


@dataclass(frozen=True, slots=True)
class Consumption:
    """The delivery of an event to one consumer (its service's name); `attempts` is 0 where the number is not known."""

    consumer: str
    state: str
    attempts: int
    error: str | None


def page(
    session: Session,
    page: paging.Page,
    *,
    type: str | None = None,
    subject: str | None = None,
    source: str | None = None,
    since: str | None = None,
    dead: bool = False,
) -> paging.Slice[LedgerEvent]:
    """Events, newest first; with `dead`, only those with a dead letter. `type` may end in `*`; ticks are listed only where it names them."""
    query = select(LedgerEvent)
    if type is None:
        query = query.where(NO_TICK)
    elif type.endswith("*"):
        query = query.where(col(LedgerEvent.type).startswith(type[:-1], autoescape=True))
    else:
        query = query.where(LedgerEvent.type == type)
    for column, value in ((LedgerEvent.subject, subject), (LedgerEvent.source, source)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        # The numbers of events rise with their times, so the first number since then ends the search.
        first = select(LedgerEvent.sequence).where(LedgerEvent.received >= since)
        first = first.order_by(col(LedgerEvent.received), col(LedgerEvent.sequence)).limit(1)
        query = query.where(LedgerEvent.received >= since, col(LedgerEvent.sequence) >= first.scalar_subquery())
    if dead:
        dead_letters = select(Delivery.event_sequence).where(Delivery.state == "dead")
        query = query.where(col(LedgerEvent.sequence).in_(dead_letters))
    return paging.fetch(session, query, page, LedgerEvent.sequence, descending=True)


def find(session: Session, id: str, source: str | None = None) -> LedgerEvent:
    """The event of this id, or of this number in the ledger.

    Raises NotFoundError, and ConflictError when several sources use the id and no source is given.
    """
    query = select(LedgerEvent).where(LedgerEvent.id == id)
    rows = session.exec(query.where(LedgerEvent.source == source) if source else query).all()
    if not rows and source is None and id.isdecimal() and len(id) < 19:
        numbered = session.get(LedgerEvent, int(id))
        rows = [numbered] if numbered else []
    if not rows:
        raise errors.NotFoundError(
            f"there is no event {id!r}{f' of {source}' if source else ''}; `fuseml events list` shows those that exist"
        )
    if len(rows) > 1:
        sources = ", ".join(sorted(row.source for row in rows))
        raise errors.ConflictError(f"{len(rows)} events have the id {id!r}; give the source of one of them: {sources}")
    return rows[0]


def at(session: Session, source: str, id: str) -> LedgerEvent | None:
    """The event of this source and id, or None."""
    query = select(LedgerEvent).where(LedgerEvent.source == source, LedgerEvent.id == id)
    return session.exec(query).first()


def count_of(session: Session, prefix: str, most: int) -> int:
    """The number of events whose source begins with `prefix`, up to `most`."""
    query = select(LedgerEvent.sequence).where(col(LedgerEvent.source).startswith(prefix, autoescape=True)).limit(most)
    return len(session.exec(query).all())


def pushes(session: Session, prefix: str) -> Sequence[LedgerEvent]:
    """The pushes of commits with this prefix, oldest first."""
    query = select(LedgerEvent).where(
        LedgerEvent.type == events.CodesetPushed.TYPE,
        col(LedgerEvent.id).contains(f"@{prefix}", autoescape=True),
        ~col(LedgerEvent.source).startswith(signature.UNPROVEN),
    )
    rows = session.exec(query.order_by(col(LedgerEvent.sequence))).all()
    return [row for row in rows if str(row.event["data"].get("commit", "")).startswith(prefix)]


def consumptions(session: Session, rows: Sequence[LedgerEvent]) -> Mapping[int, list[Consumption]]:
    """Number of the event -> its consumptions."""
    by_number: dict[int, list[Consumption]] = collections.defaultdict(list)
    numbers = {(row.source, row.id): row.sequence or 0 for row in rows}
    recorded = select(Delivery).where(col(Delivery.event_sequence).in_(numbers.values()))
    for delivery in session.exec(recorded.order_by(col(Delivery.trigger))):
        by_number[delivery.event_sequence].append(Consumption(delivery.trigger, delivery.state, delivery.attempts, delivery.error))
    key = sqlalchemy.tuple_(col(outbox_rows.HandledEvent.source), col(outbox_rows.HandledEvent.id))
    for handled in session.exec(
        select(outbox_rows.HandledEvent).where(key.in_(list(numbers))).order_by(col(outbox_rows.HandledEvent.consumer))
    ):
        of_event, consumer = by_number[numbers[handled.source, handled.id]], handled.consumer.replace("_", "-")
        if all(item.consumer != consumer for item in of_event):
            of_event.append(Consumption(consumer, "done", 0, None))
    return by_number


def record_dead_letter(session: Session, event: events.Event, consumer: str, error: str, now: str) -> None:
    """Record that a broker gave up a delivery. A repeated dead letter keeps the newer cause."""
    deliveries.accept(session, event, [], now, 0)
    row = find(session, event.id, event.source)
    delivery = session.get(Delivery, (row.sequence, consumer)) or Delivery(event_sequence=row.sequence or 0, trigger=consumer, due=0)
    delivery.state, delivery.error = "dead", error
    session.add(delivery)


def revive(session: Session, row: LedgerEvent, now: float, *, all: bool, queued: bool) -> list[str]:
    """Prepare the event's delivery to the consumers that failed, or to `all`. Returns their names.

    `queued`: the deliveries here are the broker's queue, and begin anew. Else the caller publishes the event to the broker again, and a
    delivery that fails comes back as a new dead letter.
    """
    states = ("dead", "dropped", "done") if all else ("dead",)
    selected = (col(Delivery.event_sequence) == row.sequence, col(Delivery.state).in_(states))
    consumers = list(session.exec(select(Delivery.trigger).where(*selected).order_by(col(Delivery.trigger))))
    if queued:
        again = sqlalchemy.update(Delivery).where(*selected)
        session.exec(again.values(state="pending", attempts=0, due=now, error=None))
    else:
        session.exec(sqlalchemy.delete(Delivery).where(*selected))
    return consumers


def drop(session: Session, row: LedgerEvent) -> list[str]:
    """Drop the event's dead letters. Returns the names of their consumers."""
    selected = (col(Delivery.event_sequence) == row.sequence, col(Delivery.state) == "dead")
    consumers = list(session.exec(select(Delivery.trigger).where(*selected).order_by(col(Delivery.trigger))))
    session.exec(sqlalchemy.update(Delivery).where(*selected).values(state="dropped"))
    return consumers
