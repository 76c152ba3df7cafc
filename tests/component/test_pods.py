"""Functions as gunicorn processes: start without a database, restarts of the database, graceful shutdown."""

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
from fuseml.runtime import catalog, clock, secrets
from fuseml.store import database
from fuseml.store.tables import artifact_rows
from tests import event_keys, postgresql
from tests.waiting import PATIENCE, wait_until

from . import endpoint, pods

PUSHED = events.event(events.CodesetPushed(project="p", codeset="code", ref="refs/heads/main", commit="c" * 40), clock.now())


@pytest.fixture
def store(postgresql_server: postgresql.Server) -> Iterator[database.Database]:
    with postgresql_server.migrated() as url, contextlib.closing(database.Database(url)) as store:
        yield store


@pytest.fixture
def artifacts(store: database.Database, tmp_path: pathlib.Path) -> Iterator[pods.Pod]:
    """One process of `artifacts`, which has an API and handles events; not started yet."""
    token_hashes = f"admin:{'0' * 64}"
    pod = pods.Pod(
        "artifacts",
        {
            "FUSEML_DATABASE_URL": store.url,
            "FUSEML_TOKEN_HASHES": token_hashes,
            "FUSEML_SECRET_KEYS": secrets.new_key(),
            "FUSEML_PUBLIC_URL": "http://127.0.0.1:9",
            "FUSEML_EVENT_KEYS": ",".join(event_keys.KEYS),
            "K_SINK": "http://127.0.0.1:9/",
        },
        tmp_path / "log",
    )
    yield pod
    pod.close()


def deliver(pod: pods.Pod) -> broker.Answer:
    headers, body = event_keys.encode(PUSHED)
    return pod.send("POST", catalog.EVENTS, body, headers)


def test_a_function_responds_503_while_the_database_is_down_and_recovers(
    artifacts: pods.Pod, store: database.Database, postgresql_server: postgresql.Server
) -> None:
    store.close()
    postgresql_server.stop()
    artifacts.start()
    artifacts.wait()
    for path, method in (("/metrics", "GET"), ("/openapi.json", "GET")):
        assert artifacts.send(method, path).status == 200
    response = deliver(artifacts)
    assert (response.status, b"the database cannot serve this now" in response.body) == (503, True)
    postgresql_server.start()
    assert deliver(artifacts).status == 200
    postgresql_server.stop()
    assert deliver(artifacts).status == 503
    postgresql_server.start()
    assert deliver(artifacts).status == 200
    assert endpoint.count(store, artifact_rows.Artifact) == 1


_WAITING = sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")


class BlockedDelivery:
    """Delivers the event while the database is locked; `response` is the result."""

    def __init__(self, pod: pods.Pod) -> None:
        self.response: broker.Answer | None = None
        self._thread = threading.Thread(target=self._deliver, args=(pod,))
        self._thread.start()

    def _deliver(self, pod: pods.Pod) -> None:
        try:
            self.response = deliver(pod)
        except urllib3.exceptions.HTTPError:
            self.response = None

    def result(self) -> broker.Answer | None:
        self._thread.join()
        return self.response


def waiting(store: database.Database) -> Callable[[], bool]:
    """Whether a writer waits for the lock."""

    def is_waiting() -> bool:
        with store.engine.connect() as connection:
            return bool(connection.execute(_WAITING).scalar())

    return is_waiting


@contextlib.contextmanager
def handling(artifacts: pods.Pod, store: database.Database) -> Iterator[BlockedDelivery]:
    """The process handles the event, blocked until the end of the block."""
    artifacts.start()
    artifacts.wait()
    with store.write() as session:
        session.connection()
        delivery = BlockedDelivery(artifacts)
        wait_until(waiting(store), "the event to be handled")
        yield delivery


def test_sigterm_lets_a_process_finish_its_request(artifacts: pods.Pod, store: database.Database) -> None:
    with handling(artifacts, store) as delivery:
        artifacts.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            artifacts.exit_code(1)
    response = delivery.result()
    assert response is not None and response.status == 200, artifacts.log.read_text()
    assert artifacts.exit_code(PATIENCE) == 0
    assert endpoint.count(store, artifact_rows.Artifact) == 1


def test_a_redelivered_event_of_a_killed_process_has_one_effect(artifacts: pods.Pod, store: database.Database) -> None:
    with handling(artifacts, store) as delivery:
        artifacts.kill()
        assert delivery.result() is None
        artifacts.start()
        again = BlockedDelivery(artifacts)
        artifacts.wait()
    response = again.result()
    # Connection refused during the start, or accepted.
    assert response is None or response.status == 200
    first, second = deliver(artifacts), deliver(artifacts)
    assert (first.status, first.body) == (second.status, second.body) == (200, second.body)
    assert endpoint.count(store, artifact_rows.Artifact) == 1


def test_the_graceful_timeout_limits_the_shutdown(artifacts: pods.Pod, store: database.Database) -> None:
    artifacts.arguments = ("--graceful-timeout", "1")
    with handling(artifacts, store) as delivery:
        artifacts.terminate()
        artifacts.exit_code(PATIENCE)
        # Without a response, the broker redelivers the event.
        assert delivery.result() is None
    assert endpoint.count(store, artifact_rows.Artifact) == 0
    artifacts.start()
    artifacts.wait()
    assert deliver(artifacts).status == 200
    assert endpoint.count(store, artifact_rows.Artifact) == 1
