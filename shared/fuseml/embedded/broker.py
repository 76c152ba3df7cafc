"""The embedded broker: a queue in the database, delivered by the production triggers under Knative's rules.

An event is safe once `publish` has returned. Each trigger has its own bounded number of deliveries in flight, so that a slow
subscriber delays nobody else, and memory holds only what is in flight. A reply that is a CloudEvent is published in the same
transaction that settles the delivery; after a crash in between the delivery is repeated, and the subscriber gives the same reply.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass

import sqlmodel

from fuseml.domain import errors, events
from fuseml.embedded import triggers
from fuseml.runtime import clock, cloudevents
from fuseml.store import database, deliveries

_log = logging.getLogger("fuseml.broker")

# What Knative's dispatcher repeats (platform facts 3.2); other statuses are given up at once.
_RETRIED = frozenset({404, 408, 409, 429})
_CONCURRENCY = 4
_IDLE_SECONDS = 5.0
_TROUBLE_SECONDS = 1.0
# Delivered events are looked at for a month, as long as their handling is remembered; the sweep for older ones is cheap.
_RETENTION_SECONDS = 30 * 86_400.0
_SWEEP_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subscriber answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Subscriber = Callable[[Mapping[str, str], bytes], Answer]
"""Delivers headers and body of an event to one function's `/`."""


class Broker:
    """A publisher, and the threads that deliver. `subscribers` maps a service's name to its function."""

    def __init__(self, store: database.Database, wanted: Sequence[triggers.Trigger], subscribers: Mapping[str, Subscriber]) -> None:
        missing = sorted({trigger.subscriber for trigger in wanted} - subscribers.keys())
        if missing:
            raise errors.PermanentError(f"triggers name services that do not exist: {', '.join(missing)}")
        self._store, self._triggers, self._subscribers = store, {trigger.name: trigger for trigger in wanted}, subscribers
        self._in_flight: dict[str, set[int]] = {trigger.name: set() for trigger in wanted}
        self._changed = threading.Condition()
        self._news, self._running = True, False
        self._workers: futures.ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None

    def publish(self, event: events.Event) -> None:
        """Accept an event; an event whose source and id are known is accepted and changes nothing."""
        with self._store.write() as session:
            self._accept(session, event)
        self._wake()

    def _accept(self, session: sqlmodel.Session, event: events.Event) -> None:
        wanted = [trigger.name for trigger in self._triggers.values() if trigger.wants(event)]
        deliveries.accept(session, event, wanted, clock.now(), time.time())

    def start(self) -> None:
        """Begin to deliver, with what was left over from before."""
        self._running = True
        self._workers = futures.ThreadPoolExecutor(_CONCURRENCY * max(1, len(self._triggers)), "broker")
        self._thread = threading.Thread(target=self._schedule, name="broker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the deliveries in flight and begin no more. What is left stays on disk."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
        if self._workers:
            self._workers.shutdown()

    def _wake(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def _schedule(self) -> None:
        swept = float("-inf")
        while True:
            with self._changed:
                self._news = False
                if not self._running:
                    return
                # Before the queue is read: what is settled in between must not look as if it were still to be delivered.
                in_flight = {name: sorted(sequences) for name, sequences in self._in_flight.items()}
            try:
                pause = self._dispatch(in_flight)
                if time.monotonic() - swept > _SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._forget()
            except Exception as error:
                # This thread must live; without it nothing is delivered any more.
                _log.warning("the queue cannot be served now: %s", error, exc_info=not isinstance(error, errors.TemporaryError))
                pause = _TROUBLE_SECONDS
            with self._changed:
                if self._running and not self._news:
                    self._changed.wait(pause)

    def _dispatch(self, in_flight: Mapping[str, Sequence[int]]) -> float:
        """Hand out what is due. Returns the seconds until something else is."""
        assert self._workers is not None
        moment = time.time()
        found: list[deliveries.Due] = []
        with self._store.read() as session:
            for name, busy in in_flight.items():
                if len(busy) < _CONCURRENCY:
                    found += deliveries.due(session, name, moment, _CONCURRENCY - len(busy), busy)
            upcoming = deliveries.next_due(session, moment)
        with self._changed:
            for delivery in found:
                self._in_flight[delivery.trigger].add(delivery.sequence)
        for delivery in found:
            self._workers.submit(self._deliver, delivery)
        return _IDLE_SECONDS if upcoming is None else min(_IDLE_SECONDS, upcoming - moment)

    def _forget(self) -> None:
        with self._store.write() as session:
            deliveries.forget(session, clock.ago(_RETENTION_SECONDS))

    def _deliver(self, delivery: deliveries.Due) -> None:
        trigger = self._triggers[delivery.trigger]
        try:
            self._settle(delivery, trigger, self._attempt(delivery, trigger))
        except Exception as error:
            # Nothing is recorded, so the delivery is still due; a pause keeps the trouble from becoming a loop.
            _log.warning("the outcome of a delivery to %s could not be stored, it will be repeated: %s", trigger.name, error)
            time.sleep(_TROUBLE_SECONDS)
        finally:
            with self._changed:
                self._in_flight[delivery.trigger].discard(delivery.sequence)
            self._wake()

    def _attempt(self, delivery: deliveries.Due, trigger: triggers.Trigger) -> Answer:
        try:
            return self._subscribers[trigger.subscriber](*cloudevents.encode(delivery.event))
        except Exception:
            # Whatever a subscriber raises is what a crashed pod is to Knative: no answer, to be tried again.
            _log.exception("delivery of %s to %s failed", delivery.event.id, trigger.name)
            return Answer(500, {}, b"the subscriber failed")

    def _settle(self, delivery: deliveries.Due, trigger: triggers.Trigger, answer: Answer) -> None:
        status, error, reply = _judge(answer)
        attempt = delivery.attempts + 1
        repeat = error is not None and (status in _RETRIED or status >= 500) and attempt <= trigger.retry
        with self._store.write() as session:
            if reply is not None:
                self._accept(session, reply)
            if error is None:
                deliveries.settle(session, delivery, state="done", due=0, error=None)
            elif repeat:
                deliveries.settle(session, delivery, state="pending", due=time.time() + trigger.backoff(attempt), error=error)
            else:
                deliveries.settle(session, delivery, state="dead", due=0, error=error)
        if error is not None and not repeat:
            _log.error("event %s of type %s is a dead letter of %s: %s", delivery.event.id, delivery.event.type, trigger.name, error)


def _judge(answer: Answer) -> tuple[int, str | None, events.Event | None]:
    """(status, error, reply) by the rules of Knative's broker filter: an answer is empty or one CloudEvent, else it counts as 502."""
    if not 200 <= answer.status < 300:
        return answer.status, f"status {answer.status}: {answer.body.decode(errors='replace').strip()[:500]}", None
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if "ce-type" in headers or headers.get("content-type", "").startswith("application/cloudevents"):
        try:
            return answer.status, None, cloudevents.decode(headers, answer.body)
        except errors.InvalidError as error:
            return 502, f"the reply is no valid CloudEvent: {error.message}", None
    if answer.body:
        return 502, "the answer has a body that is not a CloudEvent", None
    return answer.status, None, None
