"""`/mlflow/` in front of a stand-in of MLflow at a socket file: who may pass, what is passed on, and that bodies pass in pieces."""

from __future__ import annotations

import contextlib
import http.server
import io
import pathlib
import socketserver
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from werkzeug.test import Client, create_environ

from fuseml.domain import errors
from fuseml.embedded import access, sign_in, tracking_proxy, upstream
from fuseml.runtime import auth, secrets
from tests.waiting import PATIENCE

KEY = {"x-fuseml-key": "the key"}
PIECE = b"x" * 1000


class Upstream(socketserver.ThreadingUnixStreamServer):
    """Records requests. `/mlflow/slow` sends one piece, and the rest when `more` is set."""

    daemon_threads = True

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(str(path), Handler)
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.more = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, self._body()))
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Connection", "keep-alive")
        self.send_header("X-Own", "kept")
        if self.path.startswith("/mlflow/slow"):
            self.send_header("Content-Length", str(2 * len(PIECE)))
            self.end_headers()
            self.wfile.write(PIECE)
            self.server.more.wait(PATIENCE)
            self.wfile.write(PIECE)
            return
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_PUT = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Proxy:
    def __init__(self, folder: pathlib.Path, *, anonymous: bool = False) -> None:
        self.steps: dict[str, auth.StepCaller | errors.FusemlError] = {}
        tokens = auth.Tokens({auth.digest_of("admin"): auth.Caller("admin", "admin")}, anonymous=anonymous)
        self.processes = access.ProcessTokens()
        self.server = Upstream(folder / "s")
        self.pool = upstream.SocketFilePool(folder / "s")
        sessions = sign_in.Sessions(tokens, secrets.Keyring([secrets.new_key()]), tracking_proxy.PREFIX)
        self.app = tracking_proxy.TrackingProxy(lambda: (self.pool, KEY), tokens.accepting(self._step), sessions, self.processes)
        self.client = Client(self.app)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _step(self, token: str) -> auth.StepCaller:
        found = self.steps[token]
        if isinstance(found, errors.FusemlError):
            raise found
        return found

    def get(self, token: str | None, path: str = "/mlflow/api", **headers: str) -> int:
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        return self.client.get(path, headers=sent).status_code


@pytest.fixture
def proxy(tmp_path: pathlib.Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path)
    with contextlib.closing(made.pool):
        yield made
    made.server.more.set()
    made.server.shutdown()
    made.server.server_close()


def test_steps_pass_with_the_scope_and_while_they_run_only(proxy: Proxy) -> None:
    def step(*scopes: str) -> auth.StepCaller:
        return auth.StepCaller("demo", None, "w", "w-1", "s", scopes)

    proxy.steps = {
        "fuseml-step.a": step("tracking"),
        "fuseml-step.b": step("applications", "tracking"),
        "fuseml-step.c": step("applications"),
        "fuseml-step.d": step(),
        "fuseml-step.e": errors.UnauthenticatedError("the token has ended with its run w-1"),
        "fuseml-step.f": errors.TemporaryError("the database cannot serve this now"),
    }
    assert [proxy.get(token) for token in proxy.steps] == [200, 200, 403, 403, 401, 503]
    assert len(proxy.server.requests) == 2


def test_processes_of_this_server_pass_until_they_end(proxy: Proxy) -> None:
    token = proxy.processes.grant()
    assert proxy.get(token) == 200
    proxy.processes.revoke(token)
    assert proxy.get(token) == 401


def test_what_mlflow_gets(proxy: Proxy) -> None:
    headers = {
        "Authorization": "Bearer admin",
        "Cookie": "fuseml_session=x",
        "Origin": "http://localhost",
        "X-FuseML-Key": "forged",
        "X-Own": "1",
        "Accept-Encoding": "gzip",
        "Connection": "close",
    }
    answer = proxy.client.post("/mlflow/api/a%20b/%C3%A9?q=1%2B1", data=b"body", headers=headers, content_type="application/json")
    assert (answer.status_code, answer.data, answer.headers["X-Own"]) == (201, b"ok", "kept")
    assert "Connection" not in answer.headers
    ((method, path, sent, body),) = proxy.server.requests
    assert (method, path, body) == ("POST", "/mlflow/api/a%20b/%C3%A9?q=1%2B1", b"body")
    assert sent["x-fuseml-key"] == "the key"
    assert (sent["x-own"], sent["content-type"], sent["accept-encoding"]) == ("1", "application/json", "gzip")
    assert {"authorization", "cookie", "origin"}.isdisjoint(sent)


@pytest.mark.parametrize("path", ["/mlflow/../x", "/mlflow/a/../../x", "/mlflow/./x", "/mlflow/%2e%2e/x", "/mlflow/a/%2e"])
def test_dot_segments_are_refused(proxy: Proxy, path: str) -> None:
    environ = create_environ(path, headers={"Authorization": "Bearer admin"})
    assert proxy.client.open(environ_overrides={**environ, "PATH_INFO": path.replace("%2e", ".")}).status_code == 400
    assert proxy.server.requests == []


def test_bodies_pass_in_pieces_both_ways(proxy: Proxy) -> None:
    environ = create_environ("/mlflow/slow", headers={"Authorization": "Bearer admin"})
    pieces = iter(proxy.app(environ, lambda *_: lambda _: None))
    assert next(pieces) == PIECE
    proxy.server.more.set()
    assert b"".join(pieces) == PIECE
    asked: list[int] = []

    class Large(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    large = bytes(range(256)) * 4096
    environ = create_environ("/mlflow/large", method="PUT", headers={"Authorization": "Bearer admin"}, content_length=len(large))
    environ["wsgi.input"] = Large(large)
    assert b"".join(proxy.app(environ, lambda *_: lambda _: None)) == b"ok"
    assert proxy.server.requests[-1][3] == large
    assert 0 < max(asked) <= 1 << 16


def test_a_body_without_a_length_is_passed_on_whole(proxy: Proxy) -> None:
    headers = {"Authorization": "Bearer admin", "Transfer-Encoding": "chunked"}
    environ = create_environ("/mlflow/a", method="POST", headers=headers)
    environ |= {"wsgi.input": io.BytesIO(b"y" * 100_000), "wsgi.input_terminated": True}
    environ.pop("CONTENT_LENGTH", None)
    b"".join(proxy.app(environ, lambda *_: lambda _: None))
    assert proxy.server.requests[-1][3] == b"y" * 100_000


def test_files_of_runs_never_act_as_pages_of_this_server(proxy: Proxy) -> None:
    for path in (
        "/mlflow/get-artifact?path=a.html",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/a.html",
        "/mlflow/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files",
    ):
        assert proxy.client.get(path, headers={"Authorization": "Bearer admin"}).headers["Content-Security-Policy"] == "sandbox"
    assert "Content-Security-Policy" not in proxy.client.get("/mlflow/", headers={"Authorization": "Bearer admin"}).headers


def test_a_server_that_is_away_is_a_temporary_error(proxy: Proxy, tmp_path: pathlib.Path) -> None:
    proxy.pool = upstream.SocketFilePool(tmp_path / "nothing")
    answer = proxy.client.get("/mlflow/api", headers={"Authorization": "Bearer admin"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "MLflow does not answer now" in answer.text


def test_without_a_token_pages_of_other_origins_are_refused_also_where_none_is_needed(tmp_path: pathlib.Path) -> None:
    proxy = Proxy(tmp_path, anonymous=True)
    assert proxy.get(None) == 200
    assert proxy.client.post("/mlflow/api").status_code == 201  # MLflow's own client, for example
    assert proxy.client.post("/mlflow/api", headers={"Origin": "http://localhost"}).status_code == 201
    for strange in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
        assert proxy.client.get("/mlflow/api", headers=strange).status_code == 401
    assert proxy.get("wrong") == 401
    proxy.pool.close()
    proxy.server.shutdown()
    proxy.server.server_close()
