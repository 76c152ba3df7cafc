"""The embedded broker: a queue in the database, delivered by the production triggers under Knative's rules.

- An event is stored once `publish` has returned. Memory holds only deliveries in flight, whatever the length of the queue. A full queue
  accepts no event until it is shorter, and producers keep theirs (infra/decisions/0005).
- Each trigger has a lane with a bounded number of deliveries in flight: a slow subscriber delays no other.
- An attempt that takes longer than its trigger allows has no answer and is repeated. A call inside this process cannot be ended, so its
  thread stays and is counted: a lane with too many stuck threads pauses until some return.
- Events of FuseML's types need a valid signature to enter. The queue is FuseML's own, so a delivery is signed anew: a key may have been
  retired meanwhile, and a version that did not sign may have stored the event.
- A CloudEvent in the reply is published in the transaction that settles the delivery; after a crash in between the delivery is repeated,
  and the subscriber gives the same reply.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlmodel

from fuseml.domain import errors, events, signature
from fuseml.embedded.chaos import NONE, Chaos
from fuseml.embedded.triggers import Trigger
from fuseml.runtime import clock, cloudevents, signing
from fuseml.runtime.telemetry import trace
from fuseml.runtime.telemetry.conditions import Conditions
from fuseml.store import database, deliveries

_log = logging.getLogger("fuseml.broker")

# Statuses that Knative's dispatcher retries, beside 5xx (infra/platform-facts.md 3.2); others are dead letters at once.
_RETRIED = frozenset({404, 408, 409, 429})
_CONCURRENCY = 4
# Stuck threads that one trigger may have, beside the working ones.
_STUCK = 12
_BOUND = 100_000
_IDLE_SECONDS = 5.0
_TROUBLE_SECONDS = 1.0
_STOP_SECONDS = 10.0
_RECOUNT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a subscriber."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Subscriber = Callable[[Mapping[str, str], bytes], Answer]
"""Delivers headers and body of an event to the event endpoint of one function."""


@dataclass(eq=False, slots=True)
class _Attempt:
    """One call of a subscriber. `deadline` is on the monotonic clock; the attempt is over with the first of response and deadline."""

    delivery: deliveries.DueDelivery
    deadline: float
    over: bool = False


@dataclass(slots=True)
class _Lane:
    """The deliveries in flight to one trigger. `look_at` (Unix seconds) is the next reading of the queue; `stuck` counts abandoned threads."""

    trigger: Trigger
    attempts: dict[int, _Attempt] = field(default_factory=dict)
    stuck: int = 0
    look_at: float = 0.0

    @property
    def free(self) -> int:
        return _CONCURRENCY - len(self.attempts) if self.stuck < _STUCK else 0


class Broker:
    """A publisher, and the threads that deliver. `subscribers` maps a service's name to its function; `bound` limits the waiting deliveries.

    Without `signer` it checks and signs nothing, as Knative's broker.
    """

    def __init__(
        self,
        store: database.Database,
        triggers: Sequence[Trigger],
        subscribers: Mapping[str, Subscriber],
        *,
        signer: signing.Signer | None = None,
        chaos: Chaos = NONE,
        bound: int = _BOUND,
    ) -> None:
        missing = sorted({trigger.subscriber for trigger in triggers} - subscribers.keys())
        if missing:
            raise errors.PermanentError(f"triggers name services that do not exist: {', '.join(missing)}")
        self._store, self._subscribers, self._signer, self._chaos, self._bound = store, subscribers, signer, chaos, bound
        self._lanes = {trigger.name: _Lane(trigger) for trigger in triggers}
        self._changed = threading.Condition()
        self._depth = 0
        # Changes of the queue that are being written, and those that have been: a count of the database in between would add them twice.
        self._writers = self._writes = 0
        self._woken, self._running, self._conditions = True, False, Conditions()
        self._thread: threading.Thread | None = None

    @property
    def depth(self) -> int:
        """The number of deliveries that wait or are in flight."""
        return self._depth

    def publish(self, event: events.Event) -> None:
        """Accept an event; a second event with the same source and id changes nothing.

        Raises UnauthenticatedError without the signature that its type needs, TemporaryError while too many deliveries wait. Replies are
        exempt from the limit: a full queue must be able to empty itself.
        """
        self._check(event)
        if self._depth >= self._bound:
            raise errors.TemporaryError(f"the queue is full: {self._depth} deliveries wait; try again later", delay=_IDLE_SECONDS)
        with self._writing():
            with self._store.write() as session:
                accepted = self._accept(session, event)
            if accepted:
                self._note(accepted)
            else:
                # A replay sets the event back to pending in the queue and publishes it, so that every lane looks.
                self._note(dict.fromkeys(self._lanes, time.time()), added=0)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._changed:
            self._writers += 1
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._writes += 1

    def _check(self, event: events.Event) -> None:
        if self._signer is not None and not self._signer.check(event) and signature.of(event):
            # Its stored signature would be renewed with the delivery.
            raise errors.UnauthenticatedError(f"the signature of {event.type} {event.id} is not valid")

    def _accept(self, session: sqlmodel.Session, event: events.Event) -> Mapping[str, float]:
        """The time at which each matching trigger looks for the event; empty for a duplicate."""
        due = time.time() + self._chaos.delay_of(event.source, event.id)
        names = [name for name, lane in self._lanes.items() if lane.trigger.matches(event)]
        # A stored signature only separates proven events of other software from hints.
        stored = signature.detach(event) if self._signer is not None and signature.is_required(event) else event
        return dict.fromkeys(names, due) if deliveries.accept(session, stored, names, clock.now(), due) else {}

    def start(self) -> None:
        """Begin to deliver, left-over deliveries included."""
        self._running = True
        self._thread = threading.Thread(target=self._schedule, name="broker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no more deliveries and wait a while for those in flight. The queue stays on disk."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not any(lane.attempts for lane in self._lanes.values()), _STOP_SECONDS)

    def _note(self, look_at: Mapping[str, float], added: int | None = None) -> None:
        """Wake the scheduler, and count the deliveries that were added."""
        with self._changed:
            for name, moment in look_at.items():
                self._lanes[name].look_at = min(self._lanes[name].look_at, moment)
            self._depth += len(look_at) if added is None else added
            self._woken = True
            self._changed.notify_all()

    def _schedule(self) -> None:
        counted = -math.inf
        while True:
            with self._changed:
                self._woken = False
                if not self._running:
                    return
            try:
                if time.monotonic() - counted > _RECOUNT_SECONDS:
                    counted = time.monotonic() - (0 if self._recount() else _RECOUNT_SECONDS - _TROUBLE_SECONDS)
                self._give_up()
                self._dispatch()
                pause = self._pause()
                self._conditions.well(_log, "the queue")
            except Exception as error:
                # This thread must survive: it delivers everything.
                new = self._conditions.fault(_log, "the queue", f"it cannot be served now: {error}")
                if new and not isinstance(error, errors.TemporaryError):
                    _log.warning("the cause is not known to be temporary", exc_info=error)
                pause = _TROUBLE_SECONDS
            with self._changed:
                if self._running and not self._woken:
                    self._changed.wait(pause)

    def _recount(self) -> bool:
        """Read the depth from the queue, which a replay changes, too. False, without an effect, if this process changed the queue meanwhile."""
        with self._changed:
            writes = self._writes
        with self._store.read() as session:
            count = deliveries.count(session, "pending")
        with self._changed:
            if self._writers or self._writes != writes:
                return False
            self._depth = count
        return True

    def _dispatch(self) -> None:
        """Start the attempts that are due."""
        moment = time.time()
        with self._changed:
            # Before the queue is read: a delivery that is settled in between must not start again, and a wake-up in between must not
            # get lost.
            looking = {
                lane.trigger.name: (lane.free, list(lane.attempts)) for lane in self._lanes.values() if lane.free and lane.look_at <= moment
            }
            for name in looking:
                self._lanes[name].look_at = math.inf
        if not looking:
            return
        upcoming = dict.fromkeys(looking, moment)
        pending: list[deliveries.DueDelivery] = []
        try:
            with self._store.read() as session:
                for name, (free, busy) in looking.items():
                    due = deliveries.due(session, name, moment, free, busy)
                    pending += due
                    if len(due) < free:
                        later = deliveries.next_due(session, name, moment)
                        upcoming[name] = min(moment + _IDLE_SECONDS, math.inf if later is None else later)
        finally:
            with self._changed:
                for name, when in upcoming.items():
                    self._lanes[name].look_at = min(self._lanes[name].look_at, when)
        for delivery in pending:
            lane = self._lanes[delivery.trigger]
            attempt = _Attempt(delivery, time.monotonic() + lane.trigger.delivery.timeout)
            with self._changed:
                lane.attempts[delivery.sequence] = attempt
            # A thread each: a pool would wait at its end for threads that may never return.
            threading.Thread(target=self._deliver, args=(lane, attempt), name=f"broker-{delivery.trigger}", daemon=True).start()

    def _pause(self) -> float:
        """Seconds until the next deadline or reading of the queue."""
        now, clock_now = time.monotonic(), time.time()
        with self._changed:
            deadlines = [attempt.deadline - now for lane in self._lanes.values() for attempt in lane.attempts.values() if not attempt.over]
            looks = [lane.look_at - clock_now for lane in self._lanes.values() if lane.free]
        return max(0.0, min([_IDLE_SECONDS, *deadlines, *looks]))

    def _deliver(self, lane: _Lane, attempt: _Attempt) -> None:
        answer = self._call(lane.trigger, attempt.delivery)
        with self._changed:
            late, attempt.over = attempt.over, True
            if late:
                lane.stuck -= 1
                self._woken = True
                self._changed.notify_all()
        if late:
            _log.warning("%s answered %s after the deadline; the answer is not used", lane.trigger.name, attempt.delivery.event.id)
        else:
            self._conclude(lane, attempt, answer)

    def _give_up(self) -> None:
        """End the attempts after their deadline, as without an answer."""
        now = time.monotonic()
        with self._changed:
            late = [
                (lane, attempt)
                for lane in self._lanes.values()
                for attempt in lane.attempts.values()
                if attempt.deadline <= now and not attempt.over
            ]
            for lane, attempt in late:
                attempt.over = True
                lane.stuck += 1
        for lane, attempt in late:
            if lane.stuck == _STUCK:
                _log.error("%s gets no deliveries for now: %d of its calls do not return", lane.trigger.name, lane.stuck)
            cause = f"no answer within {lane.trigger.delivery.timeout:g} s"
            self._conclude(lane, attempt, Answer(504, {}, cause.encode()))

    def _conclude(self, lane: _Lane, attempt: _Attempt, answer: Answer) -> None:
        delivery, look_at, settled = attempt.delivery, dict[str, float](), 0
        with self._writing():
            try:
                with trace.continued(trace.read(delivery.event.extensions)):
                    look_at, settled = self._settle(delivery, lane.trigger, answer)
            except Exception as error:
                # Nothing is recorded, so the delivery is still due; the pause avoids a busy loop.
                _log.warning("the outcome of a delivery to %s could not be stored, it will be repeated: %s", lane.trigger.name, error)
                look_at = {lane.trigger.name: time.time() + _TROUBLE_SECONDS}
            finally:
                with self._changed:
                    del lane.attempts[delivery.sequence]
                self._note(look_at, settled)

    def _call(self, trigger: Trigger, delivery: deliveries.DueDelivery) -> Answer:
        try:
            return self._subscribers[trigger.subscriber](*cloudevents.encode(self._signed(delivery.event)))
        except Exception:
            # An exception of a subscriber counts as a crashed pod: no answer, so the delivery is retried.
            _log.exception("delivery of %s to %s failed", delivery.event.id, trigger.name)
            return Answer(500, {}, b"the subscriber failed")

    def _judge(self, answer: Answer) -> tuple[int, str | None, events.Event | None]:
        """As `_read`; a reply that could not enter as an event is an error that no retry repairs."""
        status, error, reply = _read(answer)
        if reply is not None:
            try:
                self._check(reply)
            except errors.UnauthenticatedError as refusal:
                return 400, f"the reply is refused: {refusal.message}", None
        return status, error, reply

    def _signed(self, event: events.Event) -> events.Event:
        is_proven = signature.is_required(event) or signature.of(event)
        return self._signer.sign(event) if self._signer is not None and is_proven else event

    def _settle(self, delivery: deliveries.DueDelivery, trigger: Trigger, answer: Answer) -> tuple[dict[str, float], int]:
        """Record the outcome. Returns the time at which triggers look at the queue, and the number of added deliveries."""
        status, error, reply = self._judge(answer)
        attempt = delivery.attempts + 1
        retried = error is not None and (status in _RETRIED or status >= 500) and attempt <= trigger.delivery.retry
        again = error is None and attempt <= self._chaos.copies(trigger.name, delivery.event.source, delivery.event.id)
        due = time.time() + (trigger.delivery.backoff(attempt) if retried else 0.0)
        look_at: dict[str, float] = {}
        with self._store.write() as session:
            if reply is not None:
                look_at |= self._accept(session, reply)
            added = len(look_at)
            if retried or again:
                deliveries.settle(session, delivery, state="pending", due=due, error=error)
                look_at[trigger.name] = min(due, look_at.get(trigger.name, due))
            elif error is not None:
                deliveries.settle(session, delivery, state="dead", due=0, error=error)
            else:
                deliveries.settle(session, delivery, state="done", due=0, error=None)
                if delivery.event.type == events.TICK:
                    # Thousands a day, without a use after their delivery.
                    deliveries.erase(session, delivery.sequence)
        if error is not None and not retried:
            fields = {"type": delivery.event.type, "id": delivery.event.id, "trigger": trigger.name, "cause": error}
            _log.error(
                "event %s of type %s is a dead letter of %s: %s",
                delivery.event.id,
                delivery.event.type,
                trigger.name,
                error,
                extra={"fields": fields},
            )
        return look_at, added - (0 if retried or again else 1)


def _read(answer: Answer) -> tuple[int, str | None, events.Event | None]:
    """(status, error, reply) by the rules of Knative's broker filter (infra/platform-facts.md 3.1): empty, one CloudEvent, or else a 502."""
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
