"""Events out: nothing lost and nothing invented between commit and publication."""

from __future__ import annotations

import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy

from fuseml.domain import errors, events
from fuseml.runtime import broker, clock, cloudevents
from fuseml.store import database, outbox
from fuseml.store.tables import codeset_rows, outbox_rows
from tests import commands
from tests.component import dying, endpoint
from tests.waiting import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
FUTURE = "2999-01-01T00:00:00.000000Z"


# The outbox


def announce(store: database.Database, number: int) -> list[str]:
    payloads = [events.RunStarted(run=f"w-{index}", workflow="w", project="demo") for index in range(number)]
    with store.write() as session:
        cloudevents.enqueue(session, *payloads)
    return [payload.run for payload in payloads]


def test_the_relay_publishes_everything_in_order_and_once(store: database.Database, publisher: endpoint.Publisher) -> None:
    runs = announce(store, 250)
    assert cloudevents.sweep(store, publisher, FUTURE) == 250
    assert [event.data["run"] for event in publisher.taken] == runs
    assert cloudevents.sweep(store, publisher, FUTURE) == 0


def test_nothing_that_was_rolled_back_is_ever_published(store: database.Database, publisher: endpoint.Publisher) -> None:
    with pytest.raises(errors.ConflictError), store.write() as session:
        cloudevents.enqueue(session, events.RunStarted(run="w-1", workflow="w", project="demo"))
        raise errors.ConflictError("no")
    assert cloudevents.sweep(store, publisher, FUTURE) == 0


def test_a_broker_that_goes_away_in_the_middle_gets_the_rest_later(store: database.Database, publisher: endpoint.Publisher) -> None:
    class Leaving(endpoint.Publisher):
        def publish(self, event: events.Event) -> None:
            self.up = len(self.taken) < 130
            super().publish(event)

    runs, leaving = announce(store, 150), Leaving()
    assert cloudevents.sweep(store, leaving, FUTURE) == 130
    assert cloudevents.sweep(store, publisher, FUTURE) == 20
    assert [event.data["run"] for event in (*leaving.taken, *publisher.taken)] == runs


def test_an_event_that_the_broker_refuses_holds_up_nothing_and_is_not_lost(
    store: database.Database, publisher: endpoint.Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    runs = announce(store, 230)
    publisher.refused = {f"run.started:w-{number}:started" for number in range(120)}
    assert cloudevents.sweep(store, publisher, FUTURE) == 110
    assert [event.data["run"] for event in publisher.taken] == runs[120:]
    assert "the broker refused run.started:w-0:started, which stays in the outbox" in caplog.text
    publisher.refused = set()
    assert cloudevents.sweep(store, publisher, FUTURE) == 120
    assert endpoint.count(store, outbox_rows.Outbox) == 0


def test_two_relays_at_once_lose_nothing(store: database.Database, publisher: endpoint.Publisher) -> None:
    runs = announce(store, 150)
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cloudevents.sweep(store, publisher, FUTURE), range(4)))
    assert {event.data["run"] for event in publisher.taken} == set(runs)
    assert endpoint.count(store, outbox_rows.Outbox) == 0


def test_a_slow_relay_takes_nothing_away_that_came_after_it_looked(store: database.Database) -> None:
    class Slow(endpoint.Publisher):
        """While it publishes for the first time, another relay publishes the same, and something new is announced."""

        def publish(self, event: events.Event) -> None:
            super().publish(event)
            if len(self.taken) == 1:
                cloudevents.sweep(store, endpoint.Publisher(), FUTURE)
                announce(store, 1)

    announce(store, 1)
    cloudevents.sweep(store, Slow(), FUTURE)
    assert endpoint.count(store, outbox_rows.Outbox) == 1


def test_a_broker_that_delivers_again_while_it_takes_nothing_is_not_told_more(
    function: endpoint.Function, publisher: endpoint.Publisher
) -> None:
    function.announced = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    publisher.up = False
    function.deliver()
    publisher.up = True
    for _ in range(5):
        assert function.deliver().status_code == 204
    assert publisher.taken == []
    assert endpoint.count(function.store, outbox_rows.Outbox) == 3
    assert cloudevents.sweep(function.store, publisher, FUTURE) == 3


def test_the_sweep_leaves_what_was_announced_just_now_to_who_has_announced_it(
    store: database.Database, publisher: endpoint.Publisher
) -> None:
    announce(store, 2)
    assert cloudevents.sweep(store, publisher, clock.ago(30)) == 0
    assert cloudevents.sweep(store, publisher, clock.ahead(1)) == 2


def test_handled_events_are_forgotten_after_their_time(function: endpoint.Function) -> None:
    function.deliver()
    with function.store.write() as session:
        outbox.forget_handled(session, "2000-01-01T00:00:00.000000Z")
    assert endpoint.count(function.store, outbox_rows.HandledEvent) == 1
    with function.store.write() as session:
        outbox.forget_handled(session, "2999-01-01T00:00:00.000000Z")
    assert endpoint.count(function.store, outbox_rows.HandledEvent) == 0


# Crashes


class Ledger:
    """A broker whose memory is a file: what was written is written, whoever dies."""

    def __init__(self, path: pathlib.Path, point: Callable[[], None]) -> None:
        self._file, self._point = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), point

    def publish(self, event: events.Event) -> None:
        self._point()
        os.write(self._file, f"{event.id}\n".encode())
        self._point()


def die_at(folder: pathlib.Path, wanted: int) -> None:
    """Deliver one event that announces three, and be killed at the `wanted`-th statement, commit or publication."""
    point = dying.at(wanted)
    store = database.Database(f"sqlite:///{folder}/fuseml.db")
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sqlalchemy.event.listen(store.engine, moment, point)
    function = endpoint.Function(store, Ledger(folder / "ledger", point))
    function.announced = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    assert function.deliver().status_code == 204


def crash_everywhere(folder: pathlib.Path) -> None:
    """Runs in a process of its own, which has no threads when it forks. Prints one line for each point of death."""
    wanted = 0
    while True:
        wanted += 1
        place = folder / str(wanted)
        place.mkdir()
        store = database.Database(f"sqlite:///{place}/fuseml.db")
        store.migrate()
        store.close()
        child = os.fork()
        if child == 0:
            die_at(place, wanted)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        committed = endpoint.count(store, codeset_rows.Project)
        before = _lines(place / "ledger")
        # The sweep repairs what was committed; a redelivery the rest. Both are sure to come, in this order or the other.
        repairs: list[Callable[[], object]] = [
            lambda: cloudevents.sweep(store, Ledger(place / "ledger", lambda: None), FUTURE),  # noqa: B023 - called at once
            lambda: _redeliver(store, place),  # noqa: B023
        ]
        for repair in repairs if wanted % 2 else reversed(repairs):
            repair()
        after = _lines(place / "ledger")
        left = endpoint.count(store, outbox_rows.Outbox)
        print(json.dumps({"killed": os.WIFSIGNALED(status), "committed": committed, "before": before, "after": after, "left": left}))
        assert endpoint.count(store, codeset_rows.Project) == 1
        store.close()
        if not os.WIFSIGNALED(status):
            return


def _redeliver(store: database.Database, place: pathlib.Path) -> None:
    function = endpoint.Function(store, Ledger(place / "ledger", lambda: None))
    function.announced = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    assert function.deliver().status_code == 204


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_death_at_any_point_loses_nothing_and_announces_nothing_that_did_not_happen(tmp_path: pathlib.Path) -> None:
    script = "import pathlib, sys; from tests.component import test_publishing as t; t.crash_everywhere(pathlib.Path(sys.argv[1]))"
    told = commands.python(script, tmp_path, cwd=ROOT)
    deaths = [json.loads(line) for line in told.stdout.splitlines()]
    wanted = [f"run.started:w-{number}:started" for number in range(3)]
    assert [death["killed"] for death in deaths] == [True] * (len(deaths) - 1) + [False]
    assert len(deaths) > 20
    for death in deaths:
        assert death["committed"] or not death["before"], "something was announced that had not happened"
        assert list(dict.fromkeys(death["after"])) == wanted, "something was lost, or came in another order"
        assert death["left"] == 0
    assert {len(death["before"]) for death in deaths} == {0, 1, 2, 3}


# Knative's broker


class Sink(BaseHTTPRequestHandler):
    """Answers with the statuses of its server, one after the other."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        server: Any = self.server
        server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.together.wait(PATIENCE)
        server.taken.append(cloudevents.decode(dict(self.headers), body))
        self.send_response(server.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    server.taken, server.statuses, server.connections, server.together = [], [], 0, threading.Barrier(1)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


EVENT = events.Event("t", "/a b", "1: 50%", "ü", endpoint.NOON, {"a": ["ü"]}, {"traceparent": "00-1-2-01"})


def test_an_event_arrives_at_the_broker_as_it_was(sink: Any) -> None:
    sink.statuses = [503, 202]
    broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/fuseml/fuseml").publish(EVENT)
    assert sink.taken == [EVENT, EVENT]


@pytest.mark.parametrize("status", [400, 401, 413])
def test_a_broker_that_refuses_is_not_asked_again(sink: Any, status: int) -> None:
    sink.statuses = [status]
    with pytest.raises(errors.PermanentError, match=f"the broker refused event 1: 50% of type t: status {status}"):
        broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/").publish(EVENT)


def test_a_broker_that_stays_away_is_a_temporary_trouble(sink: Any) -> None:
    sink.statuses = [500, 502, 429, 404, 503]
    with pytest.raises(errors.TemporaryError, match="did not accept event 1: 50%: status 503"):
        broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/").publish(EVENT)
    assert len(sink.taken) == 5


def test_a_broker_that_is_slow_is_not_waited_for_longer_than_a_broker_waits_for_us(sink: Any) -> None:
    sink.together = threading.Barrier(2)
    # Who has been left alone with an answer says so.
    sink.handle_error = lambda *_: None
    begun = time.monotonic()
    with pytest.raises(errors.TemporaryError, match="did not accept event 1: 50%: ReadTimeoutError"):
        broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/", patience=0.3).publish(EVENT)
    assert time.monotonic() - begun > 0.25
    sink.together.abort()


def test_threads_that_publish_at_once_keep_their_connections(sink: Any) -> None:
    threads = 5
    sink.statuses, sink.together = [202] * 2 * threads, threading.Barrier(threads)
    publisher = broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/")
    with futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(2):
            list(pool.map(publisher.publish, [EVENT] * threads))
    assert (len(sink.taken), sink.connections) == (2 * threads, threads)
