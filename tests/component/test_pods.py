"""Functions as processes of gunicorn: they start without a database, outlive its restarts, and end without losing what they are at."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
import urllib3

from fuseml.domain import events
from fuseml.embedded import broker
from fuseml.runtime import clock, cloudevents
from fuseml.store import database
from fuseml.store.tables import artifact_rows
from tests import postgresql
from tests.waiting import PATIENCE, wait_until

from . import endpoint, pods

PUSHED = events.event(events.CodesetPushed(project="p", codeset="code", ref="refs/heads/main", commit="c" * 40), clock.now())


@pytest.fixture
def store(postgresql_server: postgresql.Server) -> Iterator[database.Database]:
    store = database.Database(postgresql_server.fresh())
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def artifacts(store: database.Database, tmp_path: pathlib.Path) -> Iterator[pods.Pod]:
    """One process of `artifacts`, which has an API and takes events, not started yet."""
    nobody = f"admin:{'0' * 64}"
    pod = pods.Pod(
        "artifacts",
        {"FUSEML_DATABASE_URL": store.url, "FUSEML_TOKEN_HASHES": nobody, "K_SINK": "http://127.0.0.1:9/"},
        tmp_path / "log",
    )
    yield pod
    pod.close()


def deliver(pod: pods.Pod) -> broker.Answer:
    headers, body = cloudevents.encode(PUSHED)
    return pod.send("POST", "/", body, headers)


def test_a_function_that_starts_without_a_database_asks_for_patience_and_works_once_there_is_one(
    artifacts: pods.Pod, store: database.Database, postgresql_server: postgresql.Server
) -> None:
    store.close()
    postgresql_server.stop()
    artifacts.start()
    artifacts.wait()
    for path, method in (("/metrics", "GET"), ("/openapi.json", "GET")):
        assert artifacts.send(method, path).status == 200
    refused = deliver(artifacts)
    assert (refused.status, b"the database cannot serve this now" in refused.body) == (503, True)
    postgresql_server.start()
    assert deliver(artifacts).status == 200
    postgresql_server.stop()
    assert deliver(artifacts).status == 503
    postgresql_server.start()
    assert deliver(artifacts).status == 200
    assert endpoint.count(store, artifact_rows.Artifact) == 1


_WAITING = sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")


class Slowly:
    """Delivers the event while another holds the database's turn; `answer` is what came of it."""

    def __init__(self, pod: pods.Pod) -> None:
        self.answer: broker.Answer | None = None
        self._thread = threading.Thread(target=self._deliver, args=(pod,))
        self._thread.start()

    def _deliver(self, pod: pods.Pod) -> None:
        try:
            self.answer = deliver(pod)
        except urllib3.exceptions.HTTPError:
            self.answer = None

    def ended(self) -> broker.Answer | None:
        self._thread.join()
        return self.answer


def waiting(store: database.Database) -> Callable[[], bool]:
    """Whether a writer waits for its turn."""

    def look() -> bool:
        with store.engine.connect() as connection:
            return bool(connection.execute(_WAITING).scalar())

    return look


@contextlib.contextmanager
def handling(artifacts: pods.Pod, store: database.Database) -> Iterator[Slowly]:
    """The process runs and handles the event; it can go on when this ends."""
    artifacts.start()
    artifacts.wait()
    with store.write() as session:
        session.connection()
        delivery = Slowly(artifacts)
        wait_until(waiting(store), "the event to be handled")
        yield delivery


def test_what_is_handled_when_a_process_is_asked_to_end_is_answered_first(artifacts: pods.Pod, store: database.Database) -> None:
    with handling(artifacts, store) as delivery:
        artifacts.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            artifacts.ended(1)
    answer = delivery.ended()
    assert answer is not None and answer.status == 200, artifacts.log.read_text()
    assert artifacts.ended(PATIENCE) == 0
    assert endpoint.count(store, artifact_rows.Artifact) == 1


def test_what_a_killed_process_was_handling_is_done_once_when_it_is_told_again(artifacts: pods.Pod, store: database.Database) -> None:
    with handling(artifacts, store) as delivery:
        artifacts.kill()
        assert delivery.ended() is None
        artifacts.start()
        again = Slowly(artifacts)
        artifacts.wait()
    answer = again.ended()
    # Refused while it started, or taken.
    assert answer is None or answer.status == 200
    first, second = deliver(artifacts), deliver(artifacts)
    assert (first.status, first.body) == (second.status, second.body) == (200, second.body)
    assert endpoint.count(store, artifact_rows.Artifact) == 1


def test_a_process_that_is_asked_to_end_does_not_wait_for_ever(artifacts: pods.Pod, store: database.Database) -> None:
    artifacts.arguments = ("--graceful-timeout", "1")
    with handling(artifacts, store) as delivery:
        artifacts.terminate()
        artifacts.ended(PATIENCE)
        # It gives no answer, so the broker tells the event again.
        assert delivery.ended() is None
    assert endpoint.count(store, artifact_rows.Artifact) == 0
    artifacts.start()
    artifacts.wait()
    assert deliver(artifacts).status == 200
    assert endpoint.count(store, artifact_rows.Artifact) == 1
