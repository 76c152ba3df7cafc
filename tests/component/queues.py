"""The embedded broker with recording subscribers, for its tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy
import sqlmodel

from fuseml.domain import events
from fuseml.embedded import broker, redelivery, triggers
from fuseml.runtime import cloudevents
from fuseml.store import database, deliveries
from fuseml.store.tables import ledger_rows
from tests.waiting import PATIENCE, wait_until

NOON = "2026-11-21T12:00:00.000000Z"
EMPTY = broker.Answer(204, {}, b"")


def event(number: int, type: str = "a", source: str = "/s") -> events.Event:
    return events.Event(type, source, str(number), None, NOON, {"number": number})


def trigger(name: str, *types: str, retry: int = 10, delay: float = 0.01, timeout: float = 30.0) -> triggers.Trigger:
    filters = ({"any": [{"exact": {"type": type}} for type in types]},) if types else ()
    return triggers.Trigger(name, name, filters, redelivery.Rules(retry, "exponential", delay, timeout))


@dataclass
class Subscriber:
    """Answers with `answers`, one after the other, then with `last`. Records events, their times, and the largest number of concurrent calls."""

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
                self.gate.wait(PATIENCE)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self.lock:
                self.busy -= 1

    @property
    def numbers(self) -> list[int]:
        return [taken.data["number"] for taken in self.taken]


Begin = Callable[..., broker.Broker]


@pytest.fixture
def store(sqlite_store: database.Database) -> database.Database:
    return sqlite_store


@pytest.fixture
def begin(store: database.Database) -> Iterator[Begin]:
    """A constructor of brokers for subscribers by name; those that are `started` are stopped at the end."""
    running: list[broker.Broker] = []

    def make(
        subscribers: Mapping[str, broker.Subscriber], *of_triggers: triggers.Trigger, started: bool = True, **options: Any
    ) -> broker.Broker:
        instance = broker.Broker(store, of_triggers or [trigger(name) for name in subscribers], subscribers, **options)
        if started:
            instance.start()
            running.append(instance)
        return instance

    yield make
    for instance in running:
        instance.stop()


def counted(store: database.Database, state: str) -> int:
    with store.read() as session:
        return deliveries.count(session, state)


def rows(store: database.Database) -> Sequence[ledger_rows.Delivery]:
    with store.read() as session:
        return session.exec(sqlmodel.select(ledger_rows.Delivery).order_by(sqlmodel.col(ledger_rows.Delivery.event_sequence))).all()


def wait_for_done(store: database.Database, number: int) -> None:
    """Until so many deliveries are done, and none waits."""
    wait_until(lambda: counted(store, "done") == number and not counted(store, "pending"), f"{number} deliveries to be done")


def wait_for_dead(store: database.Database, number: int = 1) -> None:
    """Until so many deliveries are dead letters."""
    wait_until(lambda: counted(store, "dead") == number, f"{number} dead letters")


def wait_for_sleep(store: database.Database, seconds: float) -> None:
    """Until nothing has asked the database for anything for so many seconds."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def is_silent() -> bool:
        statements.clear()
        time.sleep(seconds)
        return not statements

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", note)
    wait_until(is_silent, lambda: f"the broker to sleep; it still asks {statements}")
    sqlalchemy.event.remove(store.engine, "before_cursor_execute", note)
