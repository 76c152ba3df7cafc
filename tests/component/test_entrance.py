"""The gateway under gunicorn, before every function: no address of the outside reaches what is inside only."""

from __future__ import annotations

import functools
import pathlib
import posixpath
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import flask
import pytest
import waitress.server
from hypothesis import HealthCheck, given, settings

from fuseml.embedded import composition
from fuseml.runtime import catalog
from tests.component import addresses, pods

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

INSIDE = {"event", "dead_letter", "metrics"}
EVENT = {
    "ce-specversion": "1.0",
    "ce-type": "org.fuseml.run.step_finished.v1",
    "ce-source": "/x",
    "ce-id": "1",
    "Content-Type": "application/json",
}


class Functions:
    """Every function, each below its service's name, as if that were its host; `inside` are the calls of internal endpoints.

    With `normalises` the server decodes a path again and again and normalises it before it serves it, as a careless proxy would.
    """

    def __init__(self, home: pathlib.Path, *, normalises: bool) -> None:
        parts = composition.compose(home, "http://127.0.0.1:1", "token", mlflow="http://127.0.0.1:1", anonymous=False, environment={})
        self._store, self._normalises = parts.state.store, normalises
        self._apps: dict[str, Any] = {name.replace("_", "-"): app for name, app in parts.gateway.functions.items()}
        self.inside: list[str] = []
        self.received: list[str] = []
        for name, app in self._apps.items():
            for endpoint in INSIDE & app.view_functions.keys():
                app.view_functions[endpoint] = functools.partial(self._note, f"{name}: {endpoint}", app.view_functions[endpoint])
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = waitress.server.create_server(self, sockets=[listener], threads=4)
        self._thread = threading.Thread(target=self._run)

    def _note(self, called: str, view: Callable[[], object]) -> object:
        self.inside.append(called)
        return view()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service, _, rest = environ["REQUEST_URI"].removeprefix("/").partition("/")
        target = f"/{rest}"
        self.received.append(target)
        path = urllib.parse.unquote(target.partition("?")[0], "latin-1")
        if self._normalises:
            for _ in range(4):
                path = urllib.parse.unquote(path, "latin-1")
            path = posixpath.normpath(
                "/" + "/".join(part.partition(";")[0].strip() for part in path.replace("\\", "/").split("/")).lstrip("/")
            )
            target = urllib.parse.quote(path.encode("latin-1"))
        app: flask.Flask = self._apps[service]
        return app.wsgi_app({**environ, "PATH_INFO": path, "RAW_URI": target, "REQUEST_URI": target}, start_response)

    def _run(self) -> None:
        try:
            self._server.run()
        except OSError:
            # The closed socket ends the loop.
            assert self._closing

    _closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{{function}}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._server.close()
        self._thread.join()
        self._store.close()


@pytest.fixture(scope="module", params=["exact", "normalising"])
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    functions = Functions(tmp_path_factory.mktemp("home"), normalises=request.param == "normalising")
    functions.start()
    yield functions
    functions.close()


@pytest.fixture(scope="module")
def gateway(functions: Functions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pods.Pod]:
    pod = pods.Pod("gateway", {"FUSEML_FUNCTIONS_URL": functions.url, "THREADS": "4"}, tmp_path_factory.mktemp("gateway") / "log")
    try:
        pod.start()
        pod.wait()
        yield pod
    finally:
        pod.close()


def test_the_endpoints_are_there_and_are_counted(functions: Functions) -> None:
    """Without an entrance before them: the tests below would otherwise pass for want of anything to reach."""
    port = functions.port
    for function in catalog.FUNCTIONS:
        if function.events:
            addresses.send(port, "POST", f"/{function.service}{catalog.EVENTS}", EVENT, b"{}")
            assert functions.inside.pop() == f"{function.service}: event"
        assert addresses.send(port, "GET", f"/{function.service}/metrics")[0] == 200
        assert functions.inside.pop() == f"{function.service}: metrics"
    addresses.send(port, "POST", f"/events{catalog.DEAD_LETTERS}", EVENT, b"{}")
    assert functions.inside.pop() == "events: dead_letter"
    for entrance in ("gateway", "gateway-api"):
        status, _ = addresses.send(port, "POST", f"/dispatcher{catalog.EVENTS}", EVENT | {catalog.OUTSIDE: entrance}, b"{}")
        assert (status, functions.inside) == (404, [])


def test_no_address_leads_to_an_endpoint_of_the_inside(gateway: pods.Pod, functions: Functions) -> None:
    table = addresses.hostile()
    assert len(table) > 1000
    for target in table:
        for method in ("POST", "GET"):
            status, response = addresses.send(gateway.port, method, target, EVENT, b"{}" if method == "POST" else b"")
            assert status == 0 or 400 <= status < 500 or (status, target) == (200, "/"), (method, target, response)
            assert functions.inside == [], (method, target)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(addresses.paths())
def test_no_generated_address_leads_to_an_endpoint_of_the_inside(gateway: pods.Pod, functions: Functions, target: str) -> None:
    status, response = addresses.send(gateway.port, "POST", target, EVENT, b"{}")
    assert status < 500, (target, response)
    assert functions.inside == [], target


def test_a_legitimate_path_reaches_its_function_as_it_was_sent(gateway: pods.Pod, functions: Functions) -> None:
    for target in addresses.LEGITIMATE:
        functions.received.clear()
        status, response = addresses.send(gateway.port, "GET", target)
        assert (functions.received, status) == ([target], 401), response


@pytest.mark.parametrize(
    "headers",
    [
        {"SCRIPT_NAME": "/artifacts"},
        {"PATH_INFO": catalog.EVENTS},
        {"Script-Name": "/artifacts"},
        {"X-Original-URL": catalog.EVENTS},
        {"X-Rewrite-URL": catalog.EVENTS},
        {"X-Forwarded-Prefix": "/artifacts"},
        {"X-Forwarded-Path": catalog.EVENTS},
        {"X-HTTP-Method-Override": "POST"},
        {"Fuseml-Outside": ""},
        {"Connection": "Fuseml-Outside"},
        {"Host": "dispatcher.fuseml.svc.cluster.local:80"},
    ],
    ids=str,
)
def test_no_header_changes_the_path(gateway: pods.Pod, functions: Functions, headers: dict[str, str]) -> None:
    functions.received.clear()
    for target in (f"/artifacts{catalog.EVENTS}", "/artifacts/metrics", "/artifacts/x"):
        status, response = addresses.send(gateway.port, "POST", target, EVENT | headers, b"{}")
        assert (status, functions.inside) == (404, []), response
    assert functions.received == ["/artifacts/metrics", "/artifacts/x"]


def test_a_connection_header_takes_nothing_from_a_request(gateway: pods.Pod, functions: Functions) -> None:
    functions.received.clear()
    for options in ("close, authorization", "Authorization,close", "close, x, authorization"):
        request = f"GET /runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\nConnection: {options}\r\n\r\n"
        status, response = addresses.exchange(gateway.port, request.encode())
        assert status == 400, response
    assert functions.received == []
    assert addresses.send(gateway.port, "GET", "/runs", {"Authorization": "Bearer token"})[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Content-Length: +5",
    ],
)
def test_a_request_of_two_lengths_is_refused(gateway: pods.Pod, functions: Functions, fields: str) -> None:
    functions.received.clear()
    smuggled = "GET /runs HTTP/1.1\r\nHost: x\r\n\r\n"
    status, response = addresses.exchange(gateway.port, f"POST /runs HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n0\r\n\r\n{smuggled}".encode())
    assert 400 <= status < 502 and response.count(b"HTTP/1.1") == 1, response
    assert functions.received == []
