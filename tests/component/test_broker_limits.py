"""Limits of the embedded broker: duration of a call, number of stuck threads, length of the queue, retention."""

from __future__ import annotations

import threading
import time

import pytest
import sqlmodel

from fuseml.domain import errors, events
from fuseml.embedded import broker, chaos
from fuseml.runtime import cloudevents
from fuseml.store import database, outbox
from fuseml.store.tables import codeset_rows, ledger_rows, outbox_rows
from tests.component import endpoint, queues
from tests.component.interrupted import Interrupted
from tests.waiting import PATIENCE, wait_until

store, begin = queues.store, queues.begin


class Stuck(queues.Subscriber):
    """Hangs in its first `hang` calls until the gate opens, then answers."""

    def __init__(self, gate: threading.Event, hang: int) -> None:
        super().__init__()
        self.opened, self.hang = gate, hang

    def __call__(self, headers: object, body: bytes) -> broker.Answer:
        with self.lock:
            self.hang, hangs = self.hang - 1, self.hang > 0
        answer = super().__call__(headers, body)  # type: ignore[arg-type]
        if hangs:
            self.opened.wait(PATIENCE)
        return answer


def test_a_late_answer_counts_as_none_and_the_delivery_is_retried(
    begin: queues.Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    subscriber = Stuck(gate, 2)
    begin({"s": subscriber}, queues.trigger("s", timeout=1.0)).publish(queues.event(1))
    queues.wait_for_done(store, 1)
    assert len(subscriber.taken) == 3
    assert subscriber.times[1] - subscriber.times[0] >= 1.0
    assert not gate.is_set(), "the delivery is settled although two calls still hang"
    gate.set()
    late = "s answered 1 after the deadline; the answer is not used"
    wait_until(lambda: caplog.text.count(late) == 2, "the late answers")
    (row,) = queues.rows(store)
    assert (row.state, row.attempts, row.error) == ("done", 3, None)


def test_a_subscriber_that_is_always_late_has_a_dead_letter_with_the_cause(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    begin({"s": Stuck(gate, 9)}, queues.trigger("s", retry=2, timeout=0.05)).publish(queues.event(1))
    queues.wait_for_dead(store)
    (row,) = queues.rows(store)
    assert (row.attempts, row.error) == (3, "status 504: no answer within 0.05 s")
    gate.set()


def test_stuck_calls_do_not_block_later_events_of_their_trigger(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    subscriber = Stuck(gate, broker._CONCURRENCY)
    queue = begin({"s": subscriber}, queues.trigger("s", timeout=0.2))
    for number in range(20):
        queue.publish(queues.event(number))
    queues.wait_for_done(store, 20)
    assert not gate.is_set()
    gate.set()


def test_stuck_threads_are_bounded_and_waiting_deliveries_are_not_lost(
    begin: queues.Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    hanging, quick = Stuck(gate, 1_000), queues.Subscriber()
    queue = begin(
        {"hanging": hanging, "quick": quick}, queues.trigger("hanging", timeout=0.1, retry=1000, delay=0), queues.trigger("quick")
    )
    for number in range(30):
        queue.publish(queues.event(number))
    full = "hanging gets no deliveries for now: 12 of its calls do not return"
    wait_until(lambda: full in caplog.text, "the bound to be reached")
    wait_until(lambda: len(quick.taken) == 30, "the quick one to have all")
    time.sleep(0.3)
    assert hanging.busy <= broker._STUCK + broker._CONCURRENCY
    hanging.hang = 0
    gate.set()
    queues.wait_for_done(store, 60)
    assert set(hanging.numbers) == set(range(30))


def test_a_stuck_subscriber_does_not_prevent_a_stop(begin: queues.Begin, store: database.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_STOP_SECONDS", 3600.0)
    gate = threading.Event()
    queue = begin({"s": Stuck(gate, 9)}, queues.trigger("s", timeout=0.05, delay=3600))
    queue.publish(queues.event(1))
    wait_until(lambda: queues.rows(store)[0].attempts, "the attempt to be given up")
    queue.stop()
    assert not gate.is_set()
    assert queues.counted(store, "pending") == 1
    gate.set()


# Back-pressure


def test_a_full_queue_accepts_replies_only(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    headers, body = cloudevents.encode(queues.event(99, "b"))
    slow, second = queues.Subscriber([broker.Answer(200, headers, body)], gate=gate), queues.Subscriber()
    queue = begin({"slow": slow, "second": second}, queues.trigger("slow", "a"), queues.trigger("second", "b"), bound=3)
    for number in range(3):
        queue.publish(queues.event(number))
    with pytest.raises(errors.TemporaryError, match="the queue is full: 3 deliveries wait") as caught:
        queue.publish(queues.event(3))
    assert caught.value.delay >= 1
    gate.set()
    queues.wait_for_done(store, 4)
    assert second.numbers == [99]
    assert queue.depth == 0
    queue.publish(queues.event(3))
    queues.wait_for_done(store, 5)


def test_the_depth_includes_deliveries_of_an_earlier_process(begin: queues.Begin, store: database.Database) -> None:
    left = begin({"s": queues.Subscriber()}, started=False)
    for number in range(3):
        left.publish(queues.event(number))
    gate = threading.Event()
    queue = begin({"s": queues.Subscriber(gate=gate)}, bound=3)
    wait_until(lambda: queue.depth == 3, "the queue to be counted")
    with pytest.raises(errors.TemporaryError):
        queue.publish(queues.event(3))
    gate.set()
    wait_until(lambda: queue.depth == 0, "the queue to be empty")


def test_nothing_is_enqueued_while_the_outbox_is_full(store: database.Database) -> None:
    started = events.RunStarted(run="w-1", workflow="w", project="demo")
    with store.write() as session:
        outbox.add(session, [events.event(started, queues.NOON)] * outbox.FULL, queues.NOON)
    with pytest.raises(errors.TemporaryError, match="10000 events wait for the broker"), store.write() as session:
        session.add(codeset_rows.Project(name="p", created=queues.NOON))
        cloudevents.enqueue(session, started)
    assert endpoint.count(store, codeset_rows.Project) == 0
    assert endpoint.count(store, outbox_rows.Outbox) == outbox.FULL


# Retention


def test_a_delivered_tick_is_deleted(begin: queues.Begin, store: database.Database) -> None:
    first, second = queues.Subscriber(), queues.Subscriber([broker.Answer(503, {}, b"")])
    queue = begin({"first": first, "second": second})
    queue.publish(events.Event(events.TICK, "/ticks", "1", None, queues.NOON, {}))
    queue.publish(queues.event(2))
    wait_until(lambda: len(second.taken) == 3 and queue.depth == 0, "the queue to be empty")
    assert [row.id for row in _ledger(store)] == ["2"]
    assert [row.state for row in queues.rows(store)] == ["done", "done"]


def test_a_tick_that_cannot_be_delivered_is_a_dead_letter(begin: queues.Begin, store: database.Database) -> None:
    good, bad = queues.Subscriber(), queues.Subscriber(last=broker.Answer(400, {}, b"no"))
    queue = begin({"good": good, "bad": bad})
    queue.publish(events.Event(events.TICK, "/ticks", "1", None, queues.NOON, {}))
    wait_until(lambda: queue.depth == 0, "the queue to be empty")
    assert [row.id for row in _ledger(store)] == ["1"]
    assert queues.counted(store, "dead") == 1


def test_an_event_that_is_published_while_the_queue_is_counted_counts_once(store: database.Database) -> None:
    subscriber, interrupted = queues.Subscriber(), Interrupted(store.url)
    queue = broker.Broker(interrupted, [queues.trigger("a")], {"a": subscriber})

    def count_and_deliver() -> None:
        queue.start()
        wait_until(lambda: subscriber.taken, "the delivery")

    interrupted.then = count_and_deliver
    queue.publish(queues.event(1))
    try:
        wait_until(lambda: queue.depth == 0, "the queue to be empty")
    finally:
        queue.stop()
        interrupted.close()
    assert queue.depth == 0


def _ledger(store: database.Database) -> list[ledger_rows.LedgerEvent]:
    with store.read() as session:
        return list(session.exec(sqlmodel.select(ledger_rows.LedgerEvent)).all())


# Chaos


def test_chaos_repeats_and_reorders_events_and_loses_none(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber()
    trouble = chaos.Chaos(seed=7, duplicate=0.5, reorder=1.0, drop=1.0)
    queue = begin({"s": subscriber}, chaos=trouble)
    for number in range(40):
        queue.publish(queues.event(number))
    queues.wait_for_done(store, 40)
    assert set(subscriber.numbers) == set(range(40))
    wanted = {number: 1 + trouble.copies("s", "/s", str(number)) for number in range(40)}
    assert {number: subscriber.numbers.count(number) for number in range(40)} == wanted
    assert list(dict.fromkeys(subscriber.numbers)) != list(range(40))
    assert queue.depth == 0
