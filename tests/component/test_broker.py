"""The embedded broker: Knative's rules, a queue on disk, and triggers that do not wait for one another."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures

import pytest
import sqlalchemy
import sqlmodel

from fuseml.domain import errors, events
from fuseml.embedded import broker
from fuseml.runtime import clock, cloudevents
from fuseml.store import database, deliveries
from fuseml.store.tables import ledger_rows
from tests.component import queues
from tests.waiting import PATIENCE, wait_until

ROOT = pathlib.Path(__file__).parents[2]

store, begin = queues.store, queues.begin


def test_every_trigger_gets_its_events_only(store: database.Database, begin: queues.Begin) -> None:
    first, second = queues.Subscriber(), queues.Subscriber()
    queue = begin({"first": first, "second": second}, queues.trigger("first", "a", "b"), queues.trigger("second", "b", "c"))
    for number, type in enumerate("abcd"):
        queue.publish(queues.event(number, type))
    queues.wait_for_done(store, 4)
    assert (sorted(first.numbers), sorted(second.numbers)) == ([0, 1], [1, 2])


def test_an_event_is_delivered_unchanged(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber()
    published = events.Event("a", "/a b", "50%", "ü", queues.NOON, {"number": 1, "text": "ü"}, {"traceparent": "00-1-2-01"})
    begin({"s": subscriber}).publish(published)
    queues.wait_for_done(store, 1)
    assert subscriber.taken == [published]


def test_source_and_id_together_identify_an_event(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber()
    queue = begin({"s": subscriber})
    for number, source in ((1, "/a"), (1, "/b"), (2, "/a"), (1, "/a"), (1, "/b")):
        queue.publish(queues.event(number, source=source))
    queues.wait_for_done(store, 3)
    queue.publish(queues.event(1, source="/a"))
    queues.wait_for_done(store, 3)
    assert len(subscriber.taken) == 3


def test_a_trigger_without_a_subscriber_is_refused(store: database.Database) -> None:
    with pytest.raises(errors.PermanentError, match="triggers name services that do not exist: b, c"):
        broker.Broker(store, [queues.trigger("a"), queues.trigger("c"), queues.trigger("b")], {"a": queues.Subscriber()})


# Answers


@pytest.mark.parametrize("answer", [queues.EMPTY, broker.Answer(200, {"content-type": "text/html"}, b""), broker.Answer(202, {}, b"")])
def test_an_empty_answer_settles_the_delivery(begin: queues.Begin, store: database.Database, answer: broker.Answer) -> None:
    subscriber = queues.Subscriber(last=answer)
    begin({"s": subscriber}).publish(queues.event(1))
    queues.wait_for_done(store, 1)
    assert len(subscriber.taken) == 1


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
def test_an_event_in_the_answer_is_published(begin: queues.Begin, store: database.Database, structured: bool) -> None:
    reply = queues.event(2, "b")
    headers, body = cloudevents.encode(reply)
    if structured:
        envelope = f'{{"specversion":"1.0","type":"b","source":"/s","id":"2","time":"{queues.NOON}","data":{{"number":2}}}}'
        headers, body = {"Content-Type": "application/cloudevents+json"}, envelope.encode()
    first, second = (
        queues.Subscriber(last=broker.Answer(200, {name.title(): value for name, value in headers.items()}, body)),
        queues.Subscriber(),
    )
    begin({"first": first, "second": second}, queues.trigger("first", "a"), queues.trigger("second", "b")).publish(queues.event(1))
    queues.wait_for_done(store, 2)
    assert second.taken == [reply]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (broker.Answer(200, {"content-type": "text/html"}, b"OK"), "the answer has a body that is not a CloudEvent"),
        (broker.Answer(200, {"content-type": "application/json"}, b"{}"), "the answer has a body that is not a CloudEvent"),
        (broker.Answer(200, {"ce-type": "b"}, b"{}"), "the reply is no valid CloudEvent: this is not a CloudEvent: it has no specversion"),
        (broker.Answer(200, {"content-type": "application/cloudevents+json"}, b"{"), "the reply is no valid CloudEvent"),
        (broker.Answer(200, {"content-type": "application/cloudevents-batch+json"}, b"[]"), "the reply is no valid CloudEvent: batches"),
    ],
)
def test_any_other_body_is_a_failed_delivery_that_is_repeated(
    begin: queues.Begin, store: database.Database, answer: broker.Answer, cause: str
) -> None:
    subscriber = queues.Subscriber(last=answer)
    begin({"s": subscriber}, queues.trigger("s", retry=2, delay=0)).publish(queues.event(1))
    queues.wait_for_dead(store)
    (row,) = queues.rows(store)
    assert row.attempts == len(subscriber.taken) == 3
    assert row.error is not None
    assert row.error.startswith(cause)


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 599])
def test_these_statuses_are_retried(begin: queues.Begin, store: database.Database, status: int) -> None:
    subscriber = queues.Subscriber([broker.Answer(status, {}, b"later")] * 2)
    begin({"s": subscriber}).publish(queues.event(1))
    queues.wait_for_done(store, 1)
    assert len(subscriber.taken) == 3
    assert subscriber.taken[0] == subscriber.taken[2]


@pytest.mark.parametrize("status", [300, 302, 400, 401, 403, 405, 410, 413, 415, 422])
def test_these_statuses_are_dead_letters_at_once(begin: queues.Begin, store: database.Database, status: int) -> None:
    subscriber = queues.Subscriber(last=broker.Answer(status, {}, b"never: \xff" + b"x" * 1000))
    begin({"s": subscriber}).publish(queues.event(1))
    queues.wait_for_dead(store)
    (row,) = queues.rows(store)
    assert (row.attempts, len(subscriber.taken)) == (1, 1)
    assert row.error is not None
    assert row.error.startswith(f"status {status}: never: ")
    assert len(row.error) < 600


def test_a_delivery_to_a_crashed_subscriber_is_retried(
    begin: queues.Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = queues.Subscriber([RuntimeError("canary"), errors.PermanentError("canary")])
    begin({"s": subscriber}).publish(queues.event(1))
    queues.wait_for_done(store, 1)
    assert len(subscriber.taken) == 3
    assert "canary" in caplog.text


def test_pauses_grow_until_the_delivery_is_a_dead_letter(
    begin: queues.Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = queues.Subscriber(last=broker.Answer(503, {}, b"no"))
    begin({"s": subscriber}, queues.trigger("s", retry=4, delay=0.02)).publish(queues.event(1))
    queues.wait_for_dead(store)
    assert len(subscriber.taken) == 5
    pauses = [later - earlier for earlier, later in zip(subscriber.times, subscriber.times[1:], strict=False)]
    for pause, wanted in zip(pauses, (0.02, 0.04, 0.08, 0.16), strict=True):
        assert wanted <= pause
    (row,) = queues.rows(store)
    assert (row.attempts, row.error) == (5, "status 503: no")
    wait_until(lambda: "is a dead letter of s: status 503: no" in caplog.text, "the log line")


def test_a_dead_letter_of_one_trigger_does_not_affect_another(begin: queues.Begin, store: database.Database) -> None:
    good, bad = queues.Subscriber(), queues.Subscriber(last=broker.Answer(400, {}, b"no"))
    queue = begin({"good": good, "bad": bad})
    for number in range(20):
        queue.publish(queues.event(number))
    queues.wait_for_dead(store, 20)
    queues.wait_for_done(store, 20)
    assert sorted(good.numbers) == sorted(bad.numbers) == list(range(20))


# Time and order


def test_a_slow_subscriber_delays_no_other_and_is_not_flooded(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    slow, quick = queues.Subscriber(gate=gate), queues.Subscriber()
    queue = begin({"slow": slow, "quick": quick})
    for number in range(30):
        queue.publish(queues.event(number))
    wait_until(lambda: len(quick.taken) == 30, "the quick one to have all")
    wait_until(lambda: slow.most == broker._CONCURRENCY, "the slow one to have what it may")
    time.sleep(0.05)
    assert len(slow.taken) == broker._CONCURRENCY
    gate.set()
    queues.wait_for_done(store, 60)
    assert slow.most == broker._CONCURRENCY
    assert sorted(slow.numbers) == list(range(30))


def test_a_retry_is_on_time_while_another_trigger_is_busy(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    slow, failing = queues.Subscriber(gate=gate), queues.Subscriber([broker.Answer(503, {}, b"")] * 2)
    begin({"slow": slow, "failing": failing}, queues.trigger("slow"), queues.trigger("failing", delay=0.05)).publish(queues.event(1))
    wait_until(lambda: len(failing.taken) == 3, "the third attempt")
    assert slow.busy == 1
    gate.set()
    queues.wait_for_done(store, 2)


def test_an_event_in_flight_is_not_delivered_twice(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber(pause=0.005)
    queue = begin({"s": subscriber})

    def publish(base: int) -> None:
        for number in range(base, base + 25):
            queue.publish(queues.event(number))

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, (0, 25, 50, 75)))
    queues.wait_for_done(store, 100)
    assert len(subscriber.numbers) == len(set(subscriber.numbers)) == 100
    assert subscriber.most <= broker._CONCURRENCY


def test_delivery_follows_publication_at_once(begin: queues.Begin, store: database.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but the publication wakes the broker.
    monkeypatch.setattr(broker, "_IDLE_SECONDS", 3600.0)
    subscriber = queues.Subscriber()
    queue = begin({"s": subscriber})
    delays = []
    for number in range(30):
        begun = time.monotonic()
        queue.publish(queues.event(number))
        wait_until(lambda number=number: len(subscriber.times) > number, "the delivery", interval=0.001)  # type: ignore[misc]
        delays.append(subscriber.times[-1] - begun)
    delays.sort()
    print(f"publish to delivery: p50 {delays[15] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    queues.wait_for_done(store, 30)


def test_an_idle_broker_sleeps(begin: queues.Begin, store: database.Database) -> None:
    begin({"s": queues.Subscriber()}).publish(queues.event(1))
    queues.wait_for_done(store, 1)
    queues.wait_for_sleep(store, 1.0)


def test_a_broker_that_waits_for_a_retry_sleeps_too(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    failing, slow = queues.Subscriber(last=broker.Answer(503, {}, b"")), queues.Subscriber(gate=gate)
    begin({"failing": failing, "slow": slow}, queues.trigger("failing", delay=3600), queues.trigger("slow")).publish(queues.event(1))
    wait_until(lambda: failing.taken and slow.taken, "the first attempts")
    queues.wait_for_sleep(store, 0.5)
    gate.set()


# Outages and restarts


def test_deliveries_left_at_a_stop_follow_after_the_next_start(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber(last=broker.Answer(503, {}, b""))
    queue = begin({"s": subscriber}, queues.trigger("s", delay=0.2), started=False)
    for number in range(5):
        queue.publish(queues.event(number))
    assert queues.counted(store, "pending") == 5
    queue.start()
    wait_until(lambda: set(subscriber.numbers) == set(range(5)), "a first attempt at each")
    queue.stop()
    tried = len(subscriber.taken)
    time.sleep(0.3)
    assert len(subscriber.taken) == tried
    again = queues.Subscriber()
    begin({"s": again})
    queues.wait_for_done(store, 5)
    assert sorted(again.numbers) == list(range(5))
    assert all(row.attempts >= 2 for row in queues.rows(store))


def test_a_stop_waits_for_deliveries_in_flight(begin: queues.Begin, store: database.Database) -> None:
    gate = threading.Event()
    subscriber = queues.Subscriber(gate=gate)
    queue = begin({"s": subscriber}, started=False)
    queue.publish(queues.event(1))
    queue.start()
    wait_until(lambda: subscriber.busy == 1, "the delivery")
    stopping = threading.Thread(target=queue.stop)
    stopping.start()
    stopping.join(0.1)
    assert stopping.is_alive()
    gate.set()
    stopping.join(PATIENCE)
    assert (subscriber.busy, queues.counted(store, "done")) == (0, 1)


def test_the_queue_is_served_after_an_outage_of_the_database(
    begin: queues.Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    subscriber = queues.Subscriber(gate=gate)
    queue = begin({"s": subscriber})
    queue.publish(queues.event(1))
    wait_until(lambda: subscriber.busy == 1, "the delivery")
    trouble = True

    def fail(*_: object) -> None:
        if trouble:
            raise sqlalchemy.exc.OperationalError("", {}, Exception("disk I/O error"))

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", fail)
    gate.set()
    repeated = "it will be repeated: the database cannot serve this now: disk I/O error"
    wait_until(lambda: repeated in caplog.text, "the outcome to be refused")
    wait_until(lambda: "the queue: it cannot be served now" in caplog.text, "the queue to be refused")
    trouble = False
    queues.wait_for_done(store, 1)
    assert len(subscriber.taken) == 2


def test_old_events_are_deleted_but_no_pending_one_and_no_dead_letter(store: database.Database) -> None:
    with store.write() as session:
        for number, state in enumerate(("done", "dead", "pending", "done")):
            received = "2020-01-01T00:00:00.000000Z" if number < 3 else clock.now()
            assert deliveries.accept(session, queues.event(number), ["s"], received, 0)
            (due,) = [due for due in deliveries.due(session, "s", 1, 9, []) if due.event.id == str(number)]
            deliveries.settle(session, due, state=state, due=1e12, error=None)
    with store.write() as session:
        deliveries.forget(session, clock.ago(86_400))
    with store.read() as session:
        assert session.exec(sqlmodel.select(ledger_rows.LedgerEvent.id)).all() == ["1", "2", "3"]
    assert [row.state for row in queues.rows(store)] == ["dead", "pending", "done"]


def publish_and_die(folder: pathlib.Path) -> None:
    """Publish without end and print each published number, until the process is killed."""
    store = database.Database(f"sqlite:///{folder}/fuseml.db")
    queue = broker.Broker(store, [queues.trigger("s")], {"s": lambda _headers, _body: broker.Answer(503, {}, b"")})
    queue.start()
    for number in range(10_000):
        queue.publish(queues.event(number))
        os.write(1, f"{number}\n".encode())


def test_published_events_survive_a_kill(begin: queues.Begin, store: database.Database, tmp_path: pathlib.Path) -> None:
    script = "import pathlib, sys; from tests.component import test_broker as t; t.publish_and_die(pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    published = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    published += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    subscriber = queues.Subscriber()
    begin({"s": subscriber})
    wait_until(lambda: set(published) <= set(subscriber.numbers), "all published events")
    wait_until(lambda: not queues.counted(store, "pending"), "the queue to be empty")
