"""Every route of the embedded server against requests that a web page can cause."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from werkzeug import test as wsgi

from fuseml.embedded import composition, mount
from fuseml.runtime.operations import Operation

TOKEN = {"Authorization": "Bearer token"}
OTHER_HOST = {"Host": "evil.example:8000"}
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
]
OWN = [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
# Simple requests (CORS), which a browser sends without permission.
SIMPLE = ["text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]


@dataclass
class Server:
    gateway: mount.Gateway

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, Mapping[str, str], bytes]:
        environ = wsgi.create_environ(path, method=method, headers={"Host": "localhost", **headers}, data=body)
        response, status, fields = wsgi.run_wsgi_app(self.gateway, environ, buffered=True)
        assert not [name for name, _ in fields if name.lower().startswith("access-control-")], (method, path)
        return int(status.split()[0]), {name.lower(): value for name, value in fields}, b"".join(response)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path of every route, those of git, applications and the server itself included."""
        documented = [(operation.method, path(operation)) for operation in operations(self)]
        own = [
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/version",
            "/openapi.json",
            "/docs",
            "/nothing",
            "/apps/x",
            "/apps/x/v2/models/x/infer",
        ]
        git = ["/git/p/c.git/info/refs?service=git-upload-pack", "/git/p/c.git/git-receive-pack", "/git/p/c.git/git-upload-pack"]
        return [*documented, *itertools.product(("GET", "POST"), [*own, *git, "/mlflow/", "/mlflow/api/2.0/mlflow/runs/search"])]


def operations(server: Server) -> list[Operation]:
    return [operation for app in server.gateway.functions.values() for operation in app.extensions["fuseml"].operations]


def path(operation: Operation) -> str:
    return re.sub(r"<[^>]*>", "x", operation.path)


def made(folder: pathlib.Path, *, anonymous: bool) -> Iterator[Server]:
    parts = composition.compose(folder, "http://127.0.0.1:1", "token", mlflow="http://127.0.0.1:1", anonymous=anonymous, environment={})
    yield Server(parts.gateway)
    parts.state.store.close()


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from made(tmp_path_factory.mktemp("anonymous"), anonymous=True)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from made(tmp_path_factory.mktemp("closed"), anonymous=False)


def test_no_route_answers_by_another_host_name(anonymous: Server, closed: Server) -> None:
    for server in (anonymous, closed):
        assert len(server.routes) > 60
        for method, address in server.routes:
            for more in ({}, TOKEN, {"Origin": "http://evil.example:8000"}, {"Sec-Fetch-Site": "same-origin"}):
                status, headers, body = server.send(method, address, {**OTHER_HOST, **more})
                assert (status, headers["goa-error"]) == (403, "forbidden"), (method, address)
                assert b"evil.example:8000" in body and b"--public-url" in body


def test_no_route_of_an_anonymous_server_answers_a_foreign_page(anonymous: Server) -> None:
    for method, address in anonymous.routes:
        for page in FOREIGN:
            for more in ({}, TOKEN, {"Cookie": "session=x"}):
                for kind in ("application/json", "text/plain"):
                    status, headers, body = anonymous.send(method, address, {**page, **more, "Content-Type": kind}, b"{}")
                    assert (status, headers["goa-error"]) == (403, "forbidden"), (method, address, page)
                    assert b"web page of another origin" in body
            assert anonymous.send("OPTIONS", address, page)[0] == 403


def test_a_foreign_page_cannot_use_what_a_browser_adds(closed: Server) -> None:
    for method, address in closed.routes:
        for page in FOREIGN:
            for more in ({}, {"Cookie": "session=x"}, {"Authorization": "Basic eDp0b2tlbg=="}, {**TOKEN, "Cookie": "session=x"}):
                assert closed.send(method, address, {**page, **more})[0] == 403, (method, address, page, more)


def test_programs_and_own_pages_are_served(anonymous: Server, closed: Server) -> None:
    for server, page in itertools.product((anonymous, closed), OWN):
        for method, address in server.routes:
            status, headers, body = server.send(method, address, {**page, **TOKEN})
            assert b"web page" not in body and (status, headers.get("goa-error")) != (403, "forbidden"), (method, address, page, body)
    assert closed.send("GET", "/projects", {**TOKEN, "Origin": "http://evil.example"})[0] == 200


def test_no_route_takes_a_body_that_a_page_sends_without_permission(anonymous: Server) -> None:
    """Also where the page's origin is unknown: with a type that needs none, or without a type from a browser."""
    taken = [operation for operation in operations(anonymous) if operation.method != "GET" and not operation.media]
    assert len(taken) > 30
    for operation in taken:
        for kind in SIMPLE:
            page = {} if kind else {"Sec-Fetch-Site": "same-origin"}
            status, headers, _ = anonymous.send(operation.method, path(operation), {**page, "Content-Type": kind}, b'{"a": 1}')
            assert (status, headers["goa-error"]) == (415, "unsupported_media_type"), (operation.method, operation.path, kind)
        for kind in ("application/json", "application/x-yaml", "text/yaml; charset=utf-8", "application/vnd.x+json", ""):
            # The original's client sends no content type.
            status, *_ = anonymous.send(operation.method, path(operation), {"Content-Type": kind} if kind else {}, b'{"a": 1}')
            assert status != 415, (operation.method, operation.path, kind)


def test_a_form_of_a_git_host_is_refused_with_the_remedy(anonymous: Server) -> None:
    status, _, body = anonymous.send("POST", "/webhooks/gitea", {"Content-Type": "application/x-www-form-urlencoded"}, b"payload=%7B%7D")
    assert (status, b"set its content type to application/json on the git host" in body) == (400, True)


def test_the_token_is_checked_before_the_content_type(closed: Server) -> None:
    assert closed.send("POST", "/extensions", {"Content-Type": "text/plain"}, b"{}")[0] == 401
    assert closed.send("POST", "/extensions", {"Content-Type": "text/plain", **TOKEN}, b"{}")[0] == 415
