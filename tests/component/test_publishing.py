"""Events out: none is lost and none is invented between commit and publication."""

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
from tests import commands, databases
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
    assert [event.data["run"] for event in publisher.events] == runs
    assert cloudevents.sweep(store, publisher, FUTURE) == 0


def test_an_event_of_a_rollback_is_never_published(store: database.Database, publisher: endpoint.Publisher) -> None:
    with pytest.raises(errors.ConflictError), store.write() as session:
        cloudevents.enqueue(session, events.RunStarted(run="w-1", workflow="w", project="demo"))
        raise errors.ConflictError("no")
    assert cloudevents.sweep(store, publisher, FUTURE) == 0


def test_the_rest_is_published_after_an_outage_of_the_broker(store: database.Database, publisher: endpoint.Publisher) -> None:
    class Leaving(endpoint.Publisher):
        def publish(self, event: events.Event) -> None:
            self.up = len(self.events) < 130
            super().publish(event)

    runs, leaving = announce(store, 150), Leaving()
    assert cloudevents.sweep(store, leaving, FUTURE) == 130
    assert cloudevents.sweep(store, publisher, FUTURE) == 20
    assert [event.data["run"] for event in (*leaving.events, *publisher.events)] == runs


def test_an_event_that_the_broker_refuses_holds_up_nothing_and_is_not_lost(
    store: database.Database, publisher: endpoint.Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    runs = announce(store, 230)
    publisher.refused = {f"run.started:w-{number}:started" for number in range(120)}
    assert cloudevents.sweep(store, publisher, FUTURE) == 110
    assert [event.data["run"] for event in publisher.events] == runs[120:]
    assert "the broker refused run.started:w-0:started, which stays in the outbox" in caplog.text
    publisher.refused = set()
    assert cloudevents.sweep(store, publisher, FUTURE) == 120
    assert endpoint.count(store, outbox_rows.Outbox) == 0


def test_two_relays_at_once_lose_nothing(store: database.Database, publisher: endpoint.Publisher) -> None:
    runs = announce(store, 150)
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cloudevents.sweep(store, publisher, FUTURE), range(4)))
    assert {event.data["run"] for event in publisher.events} == set(runs)
    assert endpoint.count(store, outbox_rows.Outbox) == 0


def test_a_slow_relay_removes_no_event_that_was_enqueued_after_its_query(store: database.Database) -> None:
    class Slow(endpoint.Publisher):
        """While it publishes for the first time, another relay publishes the same, and something new is announced."""

        def publish(self, event: events.Event) -> None:
            super().publish(event)
            if len(self.events) == 1:
                cloudevents.sweep(store, endpoint.Publisher(), FUTURE)
                announce(store, 1)

    announce(store, 1)
    cloudevents.sweep(store, Slow(), FUTURE)
    assert endpoint.count(store, outbox_rows.Outbox) == 1


def test_a_redelivery_while_the_broker_accepts_nothing_publishes_no_more(
    function: endpoint.Function, publisher: endpoint.Publisher
) -> None:
    function.payloads = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    publisher.up = False
    function.deliver()
    publisher.up = True
    for _ in range(5):
        assert function.deliver().status_code == 204
    assert publisher.events == []
    assert endpoint.count(function.store, outbox_rows.Outbox) == 3
    assert cloudevents.sweep(function.store, publisher, FUTURE) == 3


def test_the_sweep_leaves_fresh_events_to_the_process_that_enqueued_them(store: database.Database, publisher: endpoint.Publisher) -> None:
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
    """A broker on a file, which survives the death of every process."""

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
    function.payloads = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    assert function.deliver().status_code == 204


def crash_everywhere(folder: pathlib.Path) -> None:
    """Runs in a process of its own, which has no threads when it forks. Prints one line for each point of death."""
    wanted = 0
    while True:
        wanted += 1
        place = folder / str(wanted)
        place.mkdir()
        store = databases.on_sqlite(place / "fuseml.db")
        store.close()
        child = os.fork()
        if child == 0:
            die_at(place, wanted)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        committed = endpoint.count(store, codeset_rows.Project)
        before = _lines(place / "ledger")
        # The sweep publishes the committed events, a redelivery causes the others. Both follow, in either order.
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
    function.payloads = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    assert function.deliver().status_code == 204


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_crash_at_any_point_loses_no_event_and_publishes_none_of_a_rollback(tmp_path: pathlib.Path) -> None:
    script = "import pathlib, sys; from tests.component import test_publishing as t; t.crash_everywhere(pathlib.Path(sys.argv[1]))"
    child = commands.python(script, tmp_path, cwd=ROOT)
    deaths = [json.loads(line) for line in child.stdout.splitlines()]
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
    """Responds with the statuses of its server, one after the other."""

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
def test_a_refusal_of_the_broker_is_not_retried(sink: Any, status: int) -> None:
    sink.statuses = [status]
    with pytest.raises(errors.PermanentError, match=f"the broker refused event 1: 50% of type t: status {status}"):
        broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/").publish(EVENT)


def test_an_outage_of_the_broker_is_a_temporary_error(sink: Any) -> None:
    sink.statuses = [500, 502, 429, 404, 503]
    with pytest.raises(errors.TemporaryError, match="did not accept event 1: 50%: status 503"):
        broker.HttpPublisher(f"http://127.0.0.1:{sink.server_port}/").publish(EVENT)
    assert len(sink.taken) == 5


def test_the_wait_for_a_slow_broker_is_shorter_than_a_broker_waits_for_a_function(sink: Any) -> None:
    sink.together = threading.Barrier(2)
    # A server whose client has gone reports it.
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
