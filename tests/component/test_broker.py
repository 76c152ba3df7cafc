"""The embedded broker: Knative's rules, a queue on disk, and nobody who waits for somebody else."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field

import pytest
import sqlalchemy
import sqlmodel

from fuseml.domain import errors, events
from fuseml.embedded import broker, triggers
from fuseml.runtime import clock, cloudevents
from fuseml.store import database, deliveries, tables

ROOT = pathlib.Path(__file__).parents[2]
NOON = "2026-11-21T12:00:00.000000Z"
EMPTY = broker.Answer(204, {}, b"")


def event(number: int, type: str = "a", source: str = "/s") -> events.Event:
    return events.Event(type, source, str(number), None, NOON, {"number": number})


def trigger(name: str, *types: str, retry: int = 10, delay: float = 0.01) -> triggers.Trigger:
    filters = ({"any": [{"exact": {"type": type}} for type in types]},) if types else ()
    return triggers.Trigger(name, name, filters, retry=retry, policy="exponential", delay=delay)


@dataclass
class Subscriber:
    """Answers with `answers`, one after the other, then with `last`; remembers what it got, when, and how many came at once."""

    answers: list[broker.Answer | Exception] = field(default_factory=list)
    last: broker.Answer = EMPTY
    pause: float = 0.0
    gate: threading.Event | None = None
    taken: list[events.Event] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    busy: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, headers: Mapping[str, str], body: bytes) -> broker.Answer:
        with self.lock:
            self.taken.append(cloudevents.decode(headers, body))
            self.times.append(time.monotonic())
            self.busy += 1
            self.most = max(self.most, self.busy)
            answer = self.answers.pop(0) if self.answers else self.last
        try:
            time.sleep(self.pause)
            if self.gate is not None:
                self.gate.wait(10)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self.lock:
                self.busy -= 1

    @property
    def numbers(self) -> list[int]:
        return [taken.data["number"] for taken in self.taken]


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


Begin = Callable[..., broker.Broker]


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[database.Database]:
    store = database.Database(f"sqlite:///{tmp_path}/fuseml.db")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def begin(store: database.Database) -> Iterator[Begin]:
    """Makes brokers for subscribers by name; `started` ones are stopped at the end."""
    running: list[broker.Broker] = []

    def make(subscribers: Mapping[str, broker.Subscriber], *wanted: triggers.Trigger, started: bool = True) -> broker.Broker:
        made = broker.Broker(store, wanted or [trigger(name) for name in subscribers], subscribers)
        if started:
            made.start()
            running.append(made)
        return made

    yield make
    for made in running:
        made.stop()


def counted(store: database.Database, state: str) -> int:
    with store.read() as session:
        return deliveries.count(session, state)


def rows(store: database.Database) -> Sequence[tables.Delivery]:
    with store.read() as session:
        return session.exec(sqlmodel.select(tables.Delivery).order_by(sqlmodel.col(tables.Delivery.event_sequence))).all()


def done(store: database.Database, number: int) -> bool:
    return within(10, lambda: counted(store, "done") == number and not counted(store, "pending"))


def test_every_trigger_gets_what_it_wants_and_nothing_else(store: database.Database, begin: Begin) -> None:
    first, second = Subscriber(), Subscriber()
    queue = begin({"first": first, "second": second}, trigger("first", "a", "b"), trigger("second", "b", "c"))
    for number, type in enumerate("abcd"):
        queue.publish(event(number, type))
    assert done(store, 4)
    assert (sorted(first.numbers), sorted(second.numbers)) == ([0, 1], [1, 2])


def test_an_event_comes_as_it_was_published(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber()
    published = events.Event("a", "/a b", "50%", "ü", NOON, {"number": 1, "text": "ü"}, {"traceparent": "00-1-2-01"})
    begin({"s": subscriber}).publish(published)
    assert done(store, 1)
    assert subscriber.taken == [published]


def test_source_and_id_together_identify_an_event(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber()
    queue = begin({"s": subscriber})
    for number, source in ((1, "/a"), (1, "/b"), (2, "/a"), (1, "/a"), (1, "/b")):
        queue.publish(event(number, source=source))
    assert done(store, 3)
    queue.publish(event(1, source="/a"))
    assert done(store, 3)
    assert len(subscriber.taken) == 3


def test_a_trigger_for_nobody_is_refused(store: database.Database) -> None:
    with pytest.raises(errors.PermanentError, match="triggers name services that do not exist: b, c"):
        broker.Broker(store, [trigger("a"), trigger("c"), trigger("b")], {"a": Subscriber()})


# Answers


@pytest.mark.parametrize("answer", [EMPTY, broker.Answer(200, {"content-type": "text/html"}, b""), broker.Answer(202, {}, b"")])
def test_an_empty_answer_settles_the_delivery(begin: Begin, store: database.Database, answer: broker.Answer) -> None:
    subscriber = Subscriber(last=answer)
    begin({"s": subscriber}).publish(event(1))
    assert done(store, 1)
    assert len(subscriber.taken) == 1


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
def test_an_event_in_the_answer_is_published(begin: Begin, store: database.Database, structured: bool) -> None:
    reply = event(2, "b")
    headers, body = cloudevents.encode(reply)
    if structured:
        envelope = f'{{"specversion":"1.0","type":"b","source":"/s","id":"2","time":"{NOON}","data":{{"number":2}}}}'
        headers, body = {"Content-Type": "application/cloudevents+json"}, envelope.encode()
    first, second = Subscriber(last=broker.Answer(200, {name.title(): value for name, value in headers.items()}, body)), Subscriber()
    begin({"first": first, "second": second}, trigger("first", "a"), trigger("second", "b")).publish(event(1))
    assert done(store, 2)
    assert second.taken == [reply]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (broker.Answer(200, {"content-type": "text/html"}, b"OK"), "the answer has a body that is not a CloudEvent"),
        (broker.Answer(200, {"content-type": "application/json"}, b"{}"), "the answer has a body that is not a CloudEvent"),
        (broker.Answer(200, {"ce-type": "b"}, b"{}"), "the reply is no valid CloudEvent: this is not a CloudEvent: it has no specversion"),
        (broker.Answer(200, {"content-type": "application/cloudevents+json"}, b"{"), "the reply is no valid CloudEvent"),
        (broker.Answer(200, {"content-type": "application/cloudevents-batch+json"}, b"[]"), "the reply is no valid CloudEvent: batches"),
    ],
)
def test_any_other_body_is_a_failed_delivery_that_is_repeated(
    begin: Begin, store: database.Database, answer: broker.Answer, told: str
) -> None:
    subscriber = Subscriber(last=answer)
    begin({"s": subscriber}, trigger("s", retry=2, delay=0)).publish(event(1))
    assert within(5, lambda: counted(store, "dead") == 1)
    (row,) = rows(store)
    assert row.attempts == len(subscriber.taken) == 3
    assert row.error is not None
    assert row.error.startswith(told)


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 599])
def test_these_statuses_are_tried_again(begin: Begin, store: database.Database, status: int) -> None:
    subscriber = Subscriber([broker.Answer(status, {}, b"later")] * 2)
    begin({"s": subscriber}).publish(event(1))
    assert done(store, 1)
    assert len(subscriber.taken) == 3
    assert subscriber.taken[0] == subscriber.taken[2]


@pytest.mark.parametrize("status", [300, 302, 400, 401, 403, 405, 410, 413, 415, 422])
def test_these_statuses_are_dead_letters_at_once(begin: Begin, store: database.Database, status: int) -> None:
    subscriber = Subscriber(last=broker.Answer(status, {}, b"never: \xff" + b"x" * 1000))
    begin({"s": subscriber}).publish(event(1))
    assert within(5, lambda: counted(store, "dead") == 1)
    (row,) = rows(store)
    assert (row.attempts, len(subscriber.taken)) == (1, 1)
    assert row.error is not None
    assert row.error.startswith(f"status {status}: never: ")
    assert len(row.error) < 600


def test_a_subscriber_that_crashes_is_tried_again(begin: Begin, store: database.Database, caplog: pytest.LogCaptureFixture) -> None:
    subscriber = Subscriber([RuntimeError("canary"), errors.PermanentError("canary")])
    begin({"s": subscriber}).publish(event(1))
    assert done(store, 1)
    assert len(subscriber.taken) == 3
    assert "canary" in caplog.text


def test_pauses_grow_between_the_attempts_and_then_it_is_a_dead_letter(
    begin: Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = Subscriber(last=broker.Answer(503, {}, b"no"))
    begin({"s": subscriber}, trigger("s", retry=4, delay=0.02)).publish(event(1))
    assert within(5, lambda: counted(store, "dead") == 1)
    assert len(subscriber.taken) == 5
    pauses = [later - earlier for earlier, later in zip(subscriber.times, subscriber.times[1:], strict=False)]
    for pause, wanted in zip(pauses, (0.02, 0.04, 0.08, 0.16), strict=True):
        assert wanted <= pause < wanted + 0.2
    (row,) = rows(store)
    assert (row.attempts, row.error) == (5, "status 503: no")
    assert within(1, lambda: "is a dead letter of s: status 503: no" in caplog.text)


def test_a_dead_letter_of_one_trigger_is_no_trouble_for_another(begin: Begin, store: database.Database) -> None:
    good, bad = Subscriber(), Subscriber(last=broker.Answer(400, {}, b"no"))
    queue = begin({"good": good, "bad": bad})
    for number in range(20):
        queue.publish(event(number))
    assert within(5, lambda: (counted(store, "done"), counted(store, "dead")) == (20, 20))
    assert sorted(good.numbers) == sorted(bad.numbers) == list(range(20))


# Time and order


def test_a_slow_subscriber_delays_nobody_and_is_not_flooded(begin: Begin, store: database.Database) -> None:
    gate = threading.Event()
    slow, quick = Subscriber(gate=gate), Subscriber()
    queue = begin({"slow": slow, "quick": quick})
    for number in range(30):
        queue.publish(event(number))
    assert within(5, lambda: len(quick.taken) == 30)
    assert within(1, lambda: slow.most == broker._CONCURRENCY)
    time.sleep(0.05)
    assert len(slow.taken) == broker._CONCURRENCY
    gate.set()
    assert done(store, 60)
    assert slow.most == broker._CONCURRENCY
    assert sorted(slow.numbers) == list(range(30))


def test_a_retry_is_on_time_while_another_trigger_is_busy(begin: Begin, store: database.Database) -> None:
    gate = threading.Event()
    slow, failing = Subscriber(gate=gate), Subscriber([broker.Answer(503, {}, b"")] * 2)
    begin({"slow": slow, "failing": failing}, trigger("slow"), trigger("failing", delay=0.05)).publish(event(1))
    assert within(1, lambda: len(failing.taken) == 3)
    assert failing.times[2] - failing.times[0] < 0.5
    gate.set()
    assert done(store, 2)


def test_an_event_in_flight_is_not_delivered_twice(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber(pause=0.005)
    queue = begin({"s": subscriber})

    def publish(base: int) -> None:
        for number in range(base, base + 25):
            queue.publish(event(number))

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, (0, 25, 50, 75)))
    assert done(store, 100)
    assert len(subscriber.numbers) == len(set(subscriber.numbers)) == 100
    assert subscriber.most <= broker._CONCURRENCY


def test_delivery_follows_publication_at_once(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber()
    queue = begin({"s": subscriber})
    delays = []
    for number in range(30):
        begun = time.monotonic()
        queue.publish(event(number))
        assert within(5, lambda number=number: len(subscriber.times) > number)  # type: ignore[misc]
        delays.append(subscriber.times[-1] - begun)
    delays.sort()
    print(f"publish to delivery: p50 {delays[15] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
    assert done(store, 30)


def test_an_idle_broker_sleeps(begin: Begin, store: database.Database) -> None:
    begin({"s": Subscriber()}).publish(event(1))
    assert done(store, 1)
    time.sleep(0.1)
    statements: list[str] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    time.sleep(1)
    assert statements == []


def test_a_broker_that_waits_for_a_retry_sleeps_too(begin: Begin, store: database.Database) -> None:
    gate = threading.Event()
    failing, slow = Subscriber(last=broker.Answer(503, {}, b"")), Subscriber(gate=gate)
    begin({"failing": failing, "slow": slow}, trigger("failing", delay=3), trigger("slow")).publish(event(1))
    assert within(2, lambda: bool(failing.taken) and bool(slow.taken))
    time.sleep(0.1)
    statements: list[str] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    time.sleep(0.5)
    assert statements == []
    gate.set()


# Trouble and restarts


def test_what_is_left_at_a_stop_is_delivered_after_the_next_start(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber(last=broker.Answer(503, {}, b""))
    queue = begin({"s": subscriber}, trigger("s", delay=0.2), started=False)
    for number in range(5):
        queue.publish(event(number))
    assert counted(store, "pending") == 5
    queue.start()
    assert within(5, lambda: len(subscriber.taken) >= 5)
    queue.stop()
    tried = len(subscriber.taken)
    time.sleep(0.3)
    assert len(subscriber.taken) == tried
    again = Subscriber()
    begin({"s": again})
    assert done(store, 5)
    assert sorted(again.numbers) == list(range(5))
    assert all(row.attempts >= 2 for row in rows(store))


def test_stopping_waits_for_what_is_in_flight(begin: Begin, store: database.Database) -> None:
    subscriber = Subscriber(pause=0.2)
    queue = begin({"s": subscriber}, started=False)
    queue.publish(event(1))
    queue.start()
    assert within(2, lambda: subscriber.busy == 1)
    queue.stop()
    assert (subscriber.busy, counted(store, "done")) == (0, 1)


def test_a_queue_that_cannot_be_read_or_written_for_a_while_is_served_later(
    begin: Begin, store: database.Database, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    subscriber = Subscriber(gate=gate)
    queue = begin({"s": subscriber})
    queue.publish(event(1))
    assert within(2, lambda: subscriber.busy == 1)
    trouble = True

    def fail(*_: object) -> None:
        if trouble:
            raise sqlalchemy.exc.OperationalError("", {}, Exception("disk I/O error"))

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", fail)
    gate.set()
    assert within(2, lambda: "it will be repeated: the database cannot serve this now: disk I/O error" in caplog.text)
    assert within(3, lambda: "the queue cannot be served now" in caplog.text)
    trouble = False
    assert done(store, 1)
    assert len(subscriber.taken) == 2


def test_old_events_are_forgotten_but_none_that_waits_for_its_turn_or_for_people(store: database.Database) -> None:
    with store.write() as session:
        for number, state in enumerate(("done", "dead", "pending", "done")):
            received = "2020-01-01T00:00:00.000000Z" if number < 3 else clock.now()
            assert deliveries.accept(session, event(number), ["s"], received, 0)
            (due,) = [due for due in deliveries.due(session, "s", 1, 9, []) if due.event.id == str(number)]
            deliveries.settle(session, due, state=state, due=1e12, error=None)
    with store.write() as session:
        deliveries.forget(session, clock.ago(86_400))
    with store.read() as session:
        assert session.exec(sqlmodel.select(tables.LedgerEvent.id)).all() == ["1", "2", "3"]
    assert [row.state for row in rows(store)] == ["dead", "pending", "done"]


def publish_and_die(folder: pathlib.Path) -> None:
    """Publishes without end, and says each time that it was done; somebody will kill it."""
    store = database.Database(f"sqlite:///{folder}/fuseml.db")
    queue = broker.Broker(store, [trigger("s")], {"s": lambda _headers, _body: broker.Answer(503, {}, b"")})
    queue.start()
    for number in range(10_000):
        queue.publish(event(number))
        os.write(1, f"{number}\n".encode())


def test_what_was_published_survives_a_kill(begin: Begin, store: database.Database, tmp_path: pathlib.Path) -> None:
    script = "import pathlib, sys; from tests.component import test_broker as t; t.publish_and_die(pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    subscriber = Subscriber()
    begin({"s": subscriber})
    assert within(15, lambda: set(told) <= set(subscriber.numbers))
    assert within(15, lambda: not counted(store, "pending"))
