"""CloudEvents in and out over HTTP, and the rules of an event endpoint.

Events of FuseML's types carry a signature (`runtime/signing.py`); one without is refused for good. An event endpoint answers 204, or 200
with exactly one CloudEvent; any other body makes Knative's filter fail the delivery (infra/platform-facts.md 3.1). The handled-event
record, with the reply, is written in the transaction of the effect. `event_messages` reads and writes the messages.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import flask
import sqlmodel
import werkzeug.exceptions

from fuseml.domain import errors, events, signature
from fuseml.runtime import catalog, clock, http, signing
from fuseml.runtime.event_messages import decode, encode
from fuseml.runtime.telemetry import handling, trace
from fuseml.store import database, outbox

STATUS: Mapping[type[errors.FusemlError], int] = types.MappingProxyType(
    {errors.TemporaryError: 503, errors.TooLargeError: 413, errors.PermanentError: 400}
)
"""Statuses for brokers: Knative retries 404, 408, 409, 429 and 5xx, and dead-letters other 4xx at once (infra/platform-facts.md 3.2)."""

_BATCH = 100
_FULL_SECONDS = 10.0
_log = logging.getLogger("fuseml.events")
_Facts = TypeVar("_Facts")

Handler = Callable[[sqlmodel.Session, events.Event], Sequence[events.Payload]]
"""Applies an event inside the given transaction and returns the payloads to publish. Runs once for each (source, id)."""


def nothing(_session: sqlmodel.Session, _event: events.Event) -> Sequence[events.Payload]:
    """The handler of events whose only effect is `after`, on every delivery: no handled-event record is written."""
    return ()


@dataclass(frozen=True, slots=True)
class Hints:
    """The handler of unsigned events of other software: their content is no fact.

    `facts(event, proven)` returns events with the facts, none where the event would change nothing; it may ask other systems, outside of any
    transaction. `proven`: the event carries FuseML's signature, and is a fact itself. `apply` handles each fact. An event that is delivered
    again is looked at again, because facts may be new although the event is not.
    """

    facts: Callable[[events.Event, bool], Sequence[events.Event]]
    apply: Handler


@dataclass(frozen=True, slots=True)
class Informed(Generic[_Facts]):
    """The handler of events that need facts of other systems: `ask(event)` reads them outside of any transaction, and `apply` handles the event
    with them, once for each (source, id). A handled event that is delivered again is answered without facts.
    """

    ask: Callable[[events.Event], _Facts]
    apply: Callable[[sqlmodel.Session, events.Event, _Facts], Sequence[events.Payload]]

    def handler(self, event: events.Event) -> Handler:
        """The handler, with the present facts."""
        facts = self.ask(event)
        return lambda session, handled: self.apply(session, handled, facts)


class Publisher(Protocol):
    """A broker: Knative's by HTTP, or the embedded one."""

    def publish(self, event: events.Event) -> None:
        """Hand the event over; after the return it is stored. Raises TemporaryError, PermanentError."""


class SigningPublisher:
    """Signs the events of FuseML's types, and hands every event over to another publisher."""

    def __init__(self, publisher: Publisher, signer: signing.Signer) -> None:
        self._publisher, self._signer = publisher, signer

    def publish(self, event: events.Event) -> None:
        """See `Publisher.publish`."""
        self._publisher.publish(self._signer.sign(event) if signature.is_required(event) else event)


class Receiver:
    """The event endpoint of one function: decodes, dispatches by type, handles each event once, answers by Knative's rules.

    `handlers` maps a type, or a prefix ending in `*`, to its handler. `after(event)` runs when the transaction is committed, on
    every delivery, and must be idempotent: it has the effects outside the database. `signer` checks events and signs replies.
    """

    def __init__(
        self,
        api: http.Api,
        store: database.Database,
        publisher: Publisher,
        signer: signing.Signer,
        handlers: Mapping[str, Handler | Hints | Informed[Any]],
        after: Callable[[events.Event], None] | None = None,
    ) -> None:
        self._consumer, self._store, self._publisher, self._signer = api.name, store, publisher, signer
        self._handlers, self._after = handlers, after
        api.internal(catalog.EVENTS, "event", self._receive, methods=["POST"])

    def _receive(self) -> flask.Response:
        event: events.Event | None = None
        with handling.Handling(self._consumer) as delivery:
            try:
                event = decode(dict(flask.request.headers), flask.request.get_data())
                delivery.begin(event)
                reply = self._handle(event, delivery)
                return _reply(self._signer.sign(reply) if reply is not None else None)
            except errors.UnauthenticatedError as error:
                delivery.outcome, delivery.cause = "unsigned", error.message
                return _refusal(error.message, STATUS[errors.PermanentError])
            except errors.FusemlError as error:
                delivery.outcome, delivery.cause = "refused", error.message
                return _refusal(error.message, next(code for kind, code in STATUS.items() if isinstance(error, kind)))
            except werkzeug.exceptions.HTTPException as error:
                delivery.outcome, delivery.cause = "refused", error.description or str(error)
                return _refusal(delivery.cause, error.code or 500)
            except Exception:
                # The broker must try again, and the log must have the cause.
                delivery.outcome = "failed"
                _log.exception("handling %s failed", event.id if event else "an event that could not be read")
                return _refusal(f"{self._consumer} failed on this event; its log has the cause", 500)

    def _handle(self, event: events.Event, delivery: handling.Handling) -> events.Event | None:
        proven = self._signer.check(event)
        handler = self._find(event.type)
        if handler is None:
            delivery.outcome = "unknown"
            return None
        if event.type in events.PAYLOADS:
            events.read(event)
        if handler is nothing:
            if self._after is not None:
                self._after(event)
            return None
        if isinstance(handler, Hints):
            facts = handler.facts(event, proven)
            return self._apply(event, handler.apply, facts, delivery) if facts else self._known(event, delivery)
        if isinstance(handler, Informed):
            before = self._before(event)
            # Facts may be gone by now, and the answer is known.
            handler = handler.handler(event) if before is None else nothing
        return self._apply(event, handler, None, delivery)

    def _apply(
        self, event: events.Event, handler: Handler, facts: Sequence[events.Event] | None, delivery: handling.Handling
    ) -> events.Event | None:
        """Handle an event that has not been handled before, or the facts that a hint led to. Returns the reply."""
        enqueued: list[outbox.PendingEvent] = []
        reply: events.Event | None = None
        with self._store.write() as session:
            before = outbox.handled(session, self._consumer, event)
            if before is None or facts is not None:
                # The cause is the fact: the sender of a hint has no say in the events that follow.
                caused = [
                    events.event(payload, clock.now(), _context(fact)) for fact in facts or (event,) for payload in handler(session, fact)
                ]
                # A reply can carry one event; several go through the outbox, all of them, to keep one order.
                reply = caused[0] if len(caused) == 1 and before is None else None
                enqueued = outbox.add(session, caused if reply is None else [], clock.now())
                if before is None:
                    outbox.record_handled(session, self._consumer, event, reply, clock.now())
                delivery.caused = caused
        # After a crash here the sweep publishes the events. A duplicate does not: it would answer a slow broker, which delivers again,
        # with more events.
        relay(self._store, self._publisher, enqueued)
        if self._after is not None:
            self._after(event)
        return reply if before is None else self._repeat(before, delivery)

    def _known(self, event: events.Event, delivery: handling.Handling) -> events.Event | None:
        """The reply to a hint that changes nothing: that of an earlier delivery, which the broker may have lost."""
        before = self._before(event)
        return self._repeat(before, delivery) if before is not None else None

    def _before(self, event: events.Event) -> outbox.Reply | None:
        """The reply to an earlier delivery; None for an event that was not handled."""
        with self._store.read() as session:
            return outbox.handled(session, self._consumer, event)

    def _repeat(self, before: outbox.Reply, delivery: handling.Handling) -> events.Event | None:
        delivery.outcome = "duplicate"
        delivery.caused = delivery.caused or ([before.event] if before.event else [])
        return before.event

    def _find(self, type: str) -> Handler | Hints | Informed[Any] | None:
        exact = self._handlers.get(type)
        return exact or next(
            (handler for name, handler in self._handlers.items() if name.endswith("*") and type.startswith(name[:-1])), None
        )


def _refusal(text: str, status: int) -> flask.Response:
    return flask.Response(text.encode(errors="backslashreplace") + b"\n", status, content_type="text/plain; charset=utf-8")


def _context(event: events.Event) -> dict[str, str]:
    # The W3C trace context goes from cause to effect, and so does the cause itself, for `why`.
    return {**trace.outgoing(), **events.caused_by(event.source, event.id)}


def _reply(event: events.Event | None) -> flask.Response:
    if event is None:
        return flask.Response(status=204)
    headers, body = encode(event)
    return flask.Response(body, 200, headers)


def relay(store: database.Database, publisher: Publisher, enqueued: Sequence[outbox.PendingEvent]) -> None:
    """Publish the events of a committed transaction, in order. While the broker does not answer, the rest waits for the sweep."""
    _publish(store, publisher, enqueued)


def sweep(store: database.Database, publisher: Publisher, before: str) -> int:
    """Publish, oldest first, the events that are in the outbox since before a time: after a crash, or an outage of the broker.

    Returns the number of published events. Two sweeps at once publish an event twice at worst; consumers recognise it by its id.
    """
    sent = last = 0
    while True:
        with store.read() as session:
            batch = outbox.pending(session, last, _BATCH, before)
        done, reached = _publish(store, publisher, batch)
        sent += done
        if not reached or len(batch) < _BATCH:
            return sent
        last = batch[-1].sequence


def _publish(store: database.Database, publisher: Publisher, enqueued: Sequence[outbox.PendingEvent]) -> tuple[int, bool]:
    """The number of published events, and whether the broker answered to the end.

    An event that the broker refuses stays in the outbox for an operator; the others do not wait behind it.
    """
    done: list[int] = []
    reached = True
    for entry in enqueued:
        event = entry.event
        try:
            publisher.publish(event)
        except errors.PermanentError as error:
            _log.error("the broker refused %s, which stays in the outbox: %s", event.id, error.message, extra=_fields(event))
        except errors.TemporaryError as error:
            _log.warning("%s is kept in the outbox for the sweep: %s", event.id, error.message, extra=_fields(event))
            reached = False
            break
        else:
            done.append(entry.sequence)
    if done:
        with store.write() as session:
            outbox.remove(session, done)
    return len(done), reached


def enqueue(session: sqlmodel.Session, *payloads: events.Payload, cause: tuple[str, str] | None = None) -> list[outbox.PendingEvent]:
    """Put events into the outbox of the running transaction and return their entries for `relay` after the commit. They belong to the
    trace of the request; `cause` names their cause (`Event.cause`).

    Raises TemporaryError, so that nothing of the transaction is stored, while too many events wait for the broker. Events of event
    handlers are exempt: accepted work must be able to finish.
    """
    if payloads and outbox.is_full(session):
        raise errors.TemporaryError(
            f"{outbox.FULL} events wait for the broker, which accepts none now; try again later", delay=_FULL_SECONDS
        )
    moment = clock.now()
    extensions = {**trace.outgoing(), **(events.caused_by(*cause) if cause else {})}
    return outbox.add(session, [events.event(payload, moment, extensions) for payload in payloads], moment)


def _fields(event: events.Event) -> dict[str, object]:
    return {"fields": {"type": event.type, "id": event.id}}
