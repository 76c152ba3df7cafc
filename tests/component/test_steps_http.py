"""The steps' HTTP client: it waits for a starting server, repeats no request that may have been processed, follows no redirect."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fuseml.steps import sdk, tracking


class Server(http.server.ThreadingHTTPServer):
    """Responds with `statuses` in turn, and records the requests' methods and credentials."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/things"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.requests.append((self.command, self.headers["Authorization"]))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"error": "e"}')

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_briefly_unavailable_server_is_retried(server: Server) -> None:
    server.statuses = [503]
    assert sdk.http("GET", server.url) == {"error": "e"}
    assert len(server.requests) == 2


def test_a_post_is_not_repeated(server: Server) -> None:
    server.statuses = [503]
    with pytest.raises(sdk.HttpError, match="503: e") as raised:
        sdk.http("POST", server.url, {"a": 1})
    assert raised.value.status == 503
    assert len(server.requests) == 1


def test_every_method_waits_for_a_starting_server() -> None:
    # Bound and never listened on: connections are refused, and no other process gets the port.
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]

    class Late(http.server.HTTPServer):
        allow_reuse_port = True

    def start() -> None:
        time.sleep(0.2)
        with Late(("127.0.0.1", port), Handler) as late:
            late.statuses, late.requests = [], []  # type: ignore[attr-defined]
            late.handle_request()

    thread = threading.Thread(target=start)
    thread.start()
    with held:
        assert sdk.http("POST", f"http://127.0.0.1:{port}/", {}) == {"error": "e"}
    thread.join()


def test_a_redirect_is_refused_because_it_would_forward_the_token(server: Server) -> None:
    server.statuses = [302]
    with pytest.raises(sdk.HttpError, match="302"):
        sdk.http("GET", server.url, token="t0ken")
    assert server.requests == [("GET", "Bearer t0ken")]


def test_credentials_in_a_url_are_sent_and_kept_out_of_messages(server: Server) -> None:
    server.statuses = [404]
    with pytest.raises(sdk.HttpError) as raised:
        sdk.http("GET", server.url.replace("//", "//ada:s3cret@") + "?key=hidden")
    assert server.requests == [("GET", "Basic YWRhOnMzY3JldA==")]
    assert str(raised.value) == f"GET {server.url}: 404: e"


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s3cret"}, "Basic YWRhOnMzY3JldA=="),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken", "MLFLOW_TRACKING_USERNAME": "ada"}, "Bearer t0ken"),
    ],
)
def test_mlflows_credential_variables_are_used(credentials: dict[str, str], header: str | None, server: Server) -> None:
    tracking.Tracking({"MLFLOW_TRACKING_URI": server.url, **credentials}).end_run("r1", "FINISHED")
    assert server.requests == [("POST", header)]


def test_only_http_urls_are_accepted() -> None:
    with pytest.raises(sdk.HttpError, match="'file:///etc/passwd' is not an http or https URL"):
        sdk.http("GET", "file:///etc/passwd")
