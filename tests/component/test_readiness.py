"""`/readyz` of a function on a real database and a real broker that come and go."""

from __future__ import annotations

import contextlib
import itertools
import logging
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import flask
import pytest
import sqlalchemy
import werkzeug.test

from functions.artifacts import app, deps
from fuseml.domain import errors
from fuseml.embedded import composition
from fuseml.platform import Knative
from fuseml.runtime import auth, http, readiness, secrets
from fuseml.runtime.settings import Settings
from fuseml.store import database
from tests import event_keys, postgresql
from tests.waiting import PATIENCE, wait_until

# Aggressive probes of Knative (infra/platform-facts.md 3.6).


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Pod:
    """The function `artifacts`, as its main module serves it."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        settings = Settings(
            database_url=database_url,
            broker_url=broker_url,
            token_hashes=f"admin:{auth.digest_of('t')}",
            event_keys=",".join(event_keys.KEYS),
            secret_keys=secrets.new_key(),
            public_url="http://fuseml.example",
        )
        self.platform = platform = Knative(settings)
        self._handle = http.as_function(lambda: app.create_app(deps.Deps.of(platform)), settings, platform.needs)
        self._outer = flask.Flask("outer")

    def get(self, path: str) -> flask.Response:
        with self._outer.test_request_context(path):
            return self._handle(flask.request)

    def probe(self) -> tuple[int, Any]:
        response = self.get("/readyz")
        return response.status_code, response.get_json()["components"]

    def becomes(self, status: int) -> Any:
        """The components, once a probe has the status."""

        def components() -> Any:
            current, components = self.probe()
            return components if current == status else None

        return wait_until(components, lambda: f"status {status}, not {self.probe()}")


Start = Callable[[str, str], Pod]


@pytest.fixture
def start() -> Iterator[Start]:
    pods: list[Pod] = []

    def start(database_url: str, broker_url: str) -> Pod:
        pods.append(Pod(database_url, broker_url))
        return pods[-1]

    yield start
    for pod in pods:
        pod.platform.store.close()


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", port)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def broker_url() -> Iterator[str]:
    with listening() as port:
        yield f"http://127.0.0.1:{port}/fuseml/fuseml"


def test_a_function_is_ready_while_its_database_answers(postgresql_server: postgresql.Server, broker_url: str, start: Start) -> None:
    with postgresql_server.migrated() as url:
        pod = start(url, broker_url)
        assert pod.becomes(200) == {"database": {"status": "ready"}, "broker": {"status": "ready"}}
        postgresql_server.stop()
        try:
            components = pod.becomes(503)
            assert components["database"]["status"] == "failed"
            assert "the database cannot serve this now" in components["database"]["message"]
            assert pod.get("/healthz").status_code == 200, "a restart of the pod would not bring the database back"
        finally:
            postgresql_server.start()
        assert pod.becomes(200)["database"] == {"status": "ready"}


def test_a_database_without_the_schema_is_not_ready_and_the_cause_says_what_to_run(
    empty_database_url: str, broker_url: str, start: Start
) -> None:
    pod = start(empty_database_url, broker_url)
    message = pod.becomes(503)["database"]["message"]
    assert message.startswith(f"the database has schema none, and this release needs {database.SCHEMA_VERSION}")
    assert "python -m fuseml.store.migrations" in message
    store = database.Database(empty_database_url)
    store.migrate()
    store.close()
    assert pod.becomes(200)["database"] == {"status": "ready"}


@pytest.mark.parametrize(("version", "status"), [("0000", 503), ("9999", 200)], ids=["older", "newer"])
def test_a_newer_schema_is_accepted_because_pods_are_replaced_after_the_migration(
    database_url: str, broker_url: str, version: str, status: int, start: Start
) -> None:
    store = database.Database(database_url)
    with store.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    store.close()
    start(database_url, broker_url).becomes(status)


def test_probes_of_a_database_that_does_not_answer_share_one_check(broker_url: str, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pod = start(f"postgresql+psycopg://fuseml@127.0.0.1:{server.getsockname()[1]}/fuseml", broker_url)
        pod.get("/healthz")
        with futures.ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda _: pod.probe(), range(8)))
        assert {status for status, _ in results} == {503}
        assert pod.probe()[1]["database"]["message"] == "no answer within 1 s"
        assert connections(server) < 8


def connections(server: socket.socket) -> int:
    """The number of clients that have connected so far."""
    server.setblocking(False)
    with contextlib.ExitStack() as accepted:
        for number in itertools.count():
            try:
                accepted.enter_context(server.accept()[0])
            except BlockingIOError:
                return number
    raise AssertionError


def test_a_function_stays_ready_while_the_broker_is_away(database_url: str, start: Start) -> None:
    with listening() as port:
        pass
    pod = start(database_url, f"http://127.0.0.1:{port}")
    components = pod.becomes(200)
    assert components["broker"] == {"status": "failed", "message": f"the broker at 127.0.0.1:{port} does not answer: Connection refused"}


def test_a_broker_whose_host_does_not_exist_is_a_wrong_setting(database_url: str, start: Start) -> None:
    pod = start(database_url, "http://-no-host-.invalid/fuseml")
    assert pod.becomes(503)["broker"]["message"] == "the broker's host '-no-host-.invalid' does not exist; check K_SINK"


@pytest.mark.parametrize(("version", "status"), [("0000", 503), (database.SCHEMA_VERSION, 200)])
def test_the_embedded_server_checks_its_database(tmp_path: pathlib.Path, version: str, status: int) -> None:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "token", mlflow="none", anonymous=False, environment={})
    with parts.state.store.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    response = werkzeug.test.Client(parts.gateway).get("/readyz")
    parts.state.store.close()
    assert response.status_code == status
    assert response.json is not None
    assert response.json["components"].keys() == {"database", "mlflow"}
    assert response.json["components"]["database"]["status"] == ("ready" if status == 200 else "failed")


# The frequency of checks


class Checked:
    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def check(self) -> None:
        self.count += 1
        self.gate.wait(30)
        if self.error:
            raise self.error


def test_many_probes_are_one_check() -> None:
    checked = Checked()
    ready = readiness.Readiness([readiness.Need("thing", checked.check)])
    assert all(ready.report().ready for _ in range(100))
    assert checked.count == 1


def test_a_check_that_runs_again_leaves_the_last_result_in_force() -> None:
    checked = Checked()
    ready = readiness.Readiness([readiness.Need("thing", checked.check)])
    assert ready.report().ready
    ready._checks[0]._ended = -100.0
    checked.gate.clear()
    with futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(ready.report)
        wait_until(lambda: checked.count == 2, "the second check to run")
        ready._checks[0]._begun = time.monotonic() + 3600  # as if it had just begun
        assert ready.report().ready
        checked.gate.set()
        assert first.result(PATIENCE).ready


def test_a_check_that_fails_otherwise_is_not_ready_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    checked = Checked()
    checked.error = RuntimeError("c4nary")
    report = readiness.Readiness([readiness.Need("thing", checked.check, outage_tolerated=False)]).report()
    assert not report.ready
    assert report.components["thing"]["message"] == "the check failed with RuntimeError; the log has the cause"
    assert "c4nary" in caplog.text


@pytest.mark.parametrize(("error", "ready"), [(errors.TemporaryError("x"), True), (errors.PermanentError("x"), False)])
def test_only_an_outage_is_tolerated(error: Exception, ready: bool) -> None:
    checked: Checked = Checked()
    checked.error = error
    check: Callable[[], None] = checked.check
    assert readiness.Readiness([readiness.Need("thing", check, outage_tolerated=True)]).report().ready is ready
