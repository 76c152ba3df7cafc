"""The embedded HTTP server with hostile and slow clients: others are served meanwhile, and each hostile one ends with its cause."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml.embedded import admission
from fuseml.embedded.http_server import Limits
from fuseml.githosts import smart_http
from fuseml.runtime.http import MAX_BODY
from tests.component import http_servers
from tests.component.http_servers import BASIC, BEARER, Running, is_open, read, request
from tests.waiting import wait_until

MANY = 300
FAST = Limits(silent=0.5, idle=0.5, head=0.5, patience=0.5, rest=0.5, rate=1 << 20)
"""Time-outs that pass during a test."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with http_servers.running() as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    with http_servers.running(FAST) as running:
        yield running


@contextlib.contextmanager
def opened(server: Running, count: int, head: bytes) -> Iterator[list[socket.socket]]:
    """Connections on which the same bytes were sent."""
    with contextlib.ExitStack() as until_closed:
        yield [until_closed.enter_context(contextlib.closing(server.send(head))) for _ in range(count)]


PART_OF_BODY = request("POST", "/workflows", {**BEARER, "Content-Length": "100"}) + b"name"
PART_OF_CHUNKS = request("POST", "/workflows", {**BEARER, "Transfer-Encoding": "chunked"}) + b"64\r\nname"
SLOW = {
    "silent": b"",
    "part of a line": b"GET /heal",
    "part of a head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "part of a body": PART_OF_BODY,
    "part of chunks": PART_OF_CHUNKS,
    "part of a webhook": request("POST", "/webhooks/gitea", {"Content-Length": "100"}) + b"{",
    "part of a pack": request("POST", "/git/p/c.git/git-receive-pack", {**BASIC, "Content-Length": "100"}) + b"00",
    "part of an instance": request("POST", "/apps/quick/invocations", {**BEARER, "Content-Length": "100"}) + b"{",
    "empty lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("head", SLOW.values(), ids=SLOW)
def test_slow_connections_stop_no_other_request(server: Running, head: bytes) -> None:
    with opened(server, MANY, head) as clients:
        server.works()
        assert all(is_open(client) for client in clients), "the normal requests were answered while the slow ones were open"


@pytest.mark.parametrize("head", SLOW.values(), ids=SLOW)
def test_a_slow_connection_ends_and_a_begun_request_gets_the_reason(impatient: Running, head: bytes) -> None:
    with opened(impatient, 3, head) as clients:
        for client in clients:
            if head.strip():
                response = read(client)
                assert response.status == 408
                assert b"the request was not complete in time" in response.body
            assert client.recv(1) == b""


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nX-A: ", PART_OF_BODY, PART_OF_CHUNKS], ids=["head", "body", "chunks"])
def test_a_client_that_sends_a_byte_now_and_then_ends_too(impatient: Running, head: bytes) -> None:
    with contextlib.closing(impatient.send(head)) as client:

        def ended() -> bool:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"a")
            return not is_open(client)

        wait_until(ended, "the slow request to end")


def test_a_slow_reader_holds_no_thread_for_ever(impatient: Running) -> None:
    with opened(impatient, 1, request("GET", "/runs/big", BEARER)) as clients:
        assert impatient.held.given_up.wait(60), "the thread still waits for its client"
        impatient.works()
        taken = 0
        with contextlib.suppress(ConnectionError):
            while data := clients[0].recv(1 << 20):
                taken += len(data)
        assert taken < http_servers.BIG


def test_slow_readers_stop_no_other_request(server: Running) -> None:
    with opened(server, MANY, request("GET", "/runs/big", BEARER)) as clients:
        server.works()
        assert sum(client.recv(1) == b"H" for client in clients[:2]) == 2


def test_a_normal_reader_gets_a_large_response_whole(impatient: Running) -> None:
    response = impatient.call("GET", "/runs/big", BEARER)
    assert (response.status, len(response.body)) == (200, http_servers.BIG)


def test_beyond_the_limit_of_connections_the_slowest_make_room() -> None:
    with http_servers.running(Limits(connections=20)) as server, opened(server, 60, b"") as clients:
        server.works()
        wait_until(lambda: not any(is_open(client) for client in clients[:30]), "the oldest to be closed")
        assert is_open(clients[-1])
        server.works()


def test_a_request_in_progress_does_not_make_room() -> None:
    hang = request("GET", "/workflows/hang", BEARER)
    with http_servers.running(Limits(connections=20)) as server, opened(server, 1, hang) as (working,):
        wait_until(lambda: server.held.entered, "the request to begin")
        with opened(server, 60, b""):
            server.works()
            server.held.release.set()
            assert read(working).status == 200


# Bodies

PATHS = {
    "/workflows": (BEARER, MAX_BODY),
    "/apps/quick/invocations": (BEARER, admission.APPLICATION_BODY),
    "/git/p/c.git/git-receive-pack": (BASIC, smart_http.MAX_BODY),
    "/git/p/c.git/info/lfs/objects/0": (BASIC, 2 * smart_http.MAX_BODY),
}
REFUSED = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}, {"Authorization": "Basic =%"}]
FRAMES = {"counted": {"Content-Length": str(1 << 30)}, "chunked": {"Transfer-Encoding": "chunked"}, "short": {"Content-Length": "3"}}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("headers", REFUSED, ids=["none", "wrong", "basic", "malformed"])
@pytest.mark.parametrize("path", PATHS)
def test_a_body_without_a_valid_token_is_refused_before_it_is_sent(
    server: Running, path: str, headers: dict[str, str], frame: dict[str, str]
) -> None:
    with contextlib.closing(server.send(request("POST", path, {**headers, **frame}))) as client:
        response = read(client)
    assert response.status == 401
    assert response.headers["www-authenticate"].startswith("Basic" if path.startswith("/git/") else "Bearer")


def test_a_refused_client_that_goes_on_sending_reads_the_response(server: Running) -> None:
    size = 100 << 20
    with contextlib.closing(server.send(request("POST", "/workflows", {"Content-Length": str(size)}))) as client:
        for _ in range(size >> 20):
            client.sendall(bytes(1 << 20))
        assert read(client).status == 401


@pytest.mark.parametrize("path", [*PATHS, "/webhooks/gitea"])
def test_a_declared_body_over_the_bound_is_refused_before_it_is_sent(server: Running, path: str) -> None:
    headers, bound = PATHS.get(path, ({}, MAX_BODY))
    with contextlib.closing(server.send(request("POST", path, {**headers, "Content-Length": str(bound + 1)}))) as client:
        response = read(client)
    assert response.status == 413
    assert f"larger than {bound} bytes" in response.body.decode()


@pytest.mark.parametrize("path", ["/workflows", "/webhooks/gitea"])
def test_chunks_are_counted(server: Running, path: str) -> None:
    with contextlib.closing(server.send(request("POST", path, {**BEARER, "Transfer-Encoding": "chunked"}))) as client:
        for _ in range((MAX_BODY >> 20) + 1):
            client.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
        assert read(client).status == 413


@pytest.mark.parametrize("path", PATHS)
def test_a_body_of_the_bound_is_taken(server: Running, path: str) -> None:
    headers, bound = PATHS[path]
    size = min(bound, MAX_BODY)
    assert server.call("POST", path, headers, bytes(size)).status == 200


def test_unproven_bodies_share_a_bound_and_the_slowest_makes_room() -> None:
    size = 1 << 20
    head = request("POST", "/webhooks/gitea", {"Content-Length": str(size + 1)})
    with http_servers.running(Limits(unproven=10 * size)) as server, opened(server, 15, head + bytes(size)) as clients:
        wait_until(lambda: sum(not is_open(client) for client in clients) >= 5, "the slowest to be refused")
        assert sum(is_open(client) for client in clients) >= 1
        server.works()
        assert server.call("POST", "/webhooks/gitea", {}, b"{}").json == {"size": 2}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_waits_for_100_continue_gets_it(server: Running, method: str) -> None:
    expecting = {**BEARER, "Expect": "100-continue"}
    with contextlib.closing(server.send(request(method, "/workflows", {**expecting, "Content-Length": "3"}))) as client:
        assert read(client).status == 100
        client.sendall(b"abc")
        assert read(client).json == {"size": 3}
    # Without a body there is nothing to wait for.
    assert server.call("GET", "/workflows", expecting).json == {"size": 0}


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({**BEARER, "Content-Length": str(MAX_BODY + 1)}, 413)])
def test_a_refused_client_is_not_asked_to_continue(server: Running, headers: dict[str, str], status: int) -> None:
    with contextlib.closing(
        server.send(request("POST", "/workflows", {"Content-Length": "3", **headers, "Expect": "100-continue"}))
    ) as client:
        assert read(client).status == status


def test_no_part_of_a_refused_body_is_read_as_a_request(server: Running) -> None:
    smuggled = request("GET", "/workflows", BEARER)
    with contextlib.closing(server.send(request("POST", "/workflows", {"Content-Length": str(len(smuggled))}) + smuggled)) as client:
        received = b""
        while data := client.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1") == 1
    assert b" 401 " in received


# The protocol

MALFORMED = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "a large head": (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 70_000, 431),
    "a malformed header": (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
    "a negative length": (request("POST", "/workflows", {**BEARER, "Content-Length": "-1"}), 400),
    "two lengths": (request("POST", "/workflows", {**BEARER, "Content-Length": "1, 2"}), 400),
    "an unknown coding": (request("POST", "/workflows", {**BEARER, "Transfer-Encoding": "gzip, chunked"}), 501),
    "a malformed chunk": (request("POST", "/workflows", {**BEARER, "Transfer-Encoding": "chunked"}) + b"zz\r\n", 400),
    "an endless size": (request("POST", "/workflows", {**BEARER, "Transfer-Encoding": "chunked"}) + b"0" * 2000, 400),
    "an endless trailer": (request("POST", "/workflows", {**BEARER, "Transfer-Encoding": "chunked"}) + b"0\r\nA: " + b"b" * 20_000, 400),
    "a WebSocket": (request("GET", "/workflows", {**BEARER, "Upgrade": "websocket", "Connection": "Upgrade"}), 400),
}


@pytest.mark.parametrize(("sent", "status"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_gets_the_one_error_body(server: Running, sent: bytes, status: int) -> None:
    with contextlib.closing(server.send(sent)) as client:
        response = read(client)
        assert response.status == status
        assert set(response.json) == {"name", "id", "message", "temporary", "timeout", "fault", "details"}
        assert response.headers["connection"] == "close"


def test_an_upgrade_to_http_2_is_ignored(server: Running) -> None:
    headers = {**BEARER, "Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"}
    assert server.call("GET", "/workflows", headers).status == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", PART_OF_BODY, PART_OF_CHUNKS, b"GET /healthz HTTP/1.1\r\n", request("GET", "/workflows", BEARER)]),
    pieces=st.lists(st.binary(max_size=300) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"A: b\r\n"]), max_size=6),
)
def test_no_sequence_of_bytes_stops_the_server(server: Running, start: bytes, pieces: list[bytes]) -> None:
    with contextlib.closing(server.connect()) as client:
        with contextlib.suppress(ConnectionError):
            for piece in (start, *pieces):
                client.sendall(piece)
        assert server.call("GET", "/healthz").status == 200


def test_a_connection_serves_many_requests(server: Running) -> None:
    with contextlib.closing(server.connect()) as client:
        for count in range(50):
            client.sendall(request("POST", "/workflows", BEARER, b"x" * count))
            assert read(client).json == {"size": count}


def test_a_connection_in_use_outlives_the_time_for_idle_ones(impatient: Running) -> None:
    impatient.held.entered.clear()
    with contextlib.closing(impatient.connect()) as client, opened(impatient, 1, b"") as (silent,):

        def silent_ended() -> bool:
            client.sendall(request("GET", "/healthz"))
            assert read(client).status == 200
            return not is_open(silent)

        wait_until(silent_ended, "the silent connection to be closed")


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    sent = b"".join(request("POST", "/workflows", BEARER, b"x" * count) for count in range(1, 20))
    with contextlib.closing(server.send(sent)) as client, client.makefile("rb") as file:
        sizes: list[bytes] = []
        while len(sizes) < 19:
            length = 0
            while (line := file.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            sizes.append(file.read(length))
    assert sizes == [b'{"size":%d}\n' % count for count in range(1, 20)]


# Threads


def hanging(server: Running, count: int, path: str) -> list[socket.socket]:
    return [server.send(request("GET", path, BEARER)) for _ in range(count)]


def test_a_hanging_application_stops_no_other_request_and_its_queue_is_bounded() -> None:
    with http_servers.running() as server, contextlib.ExitStack() as until_closed:
        clients = hanging(server, 100, "/apps/hang/invocations")
        for client in clients:
            until_closed.enter_context(contextlib.closing(client))
        refused = wait_until(lambda: [client for client in clients if not is_open(client)], "requests to be refused")
        waiting = [client for client in clients if client not in refused]
        server.works()
        assert server.call("GET", "/apps/other/v2", BEARER).json == {"name": "other"}
        for client in refused:
            response = read(client)
            assert (response.status, response.json["temporary"]) == (503, True)
            assert int(response.headers["retry-after"]) >= 1
        server.held.release.set()
        answers = [read(client).status for client in waiting]
        assert answers.count(200) >= 40
        assert set(answers) <= {200, 503}


@pytest.mark.parametrize(
    "paths",
    [
        ["/apps/hang/v2", "/workflows/hang"],
        [f"/apps/hang-{number}/v2" for number in range(4)],
    ],
    ids=["kinds", "applications"],
)
def test_held_requests_of_several_callers_leave_threads_for_others(paths: list[str]) -> None:
    with http_servers.running() as server, contextlib.ExitStack() as until_closed:
        for path in paths:
            for client in hanging(server, 40, path):
                until_closed.enter_context(contextlib.closing(client))
        wait_until(lambda: len(server.held.entered) >= 2 * len(paths), "the requests to be held")
        assert server.call("GET", "/healthz").status == 200
        assert server.call("GET", "/apps/quick/v2", BEARER).json == {"name": "quick"}
        assert server.call("POST", "/webhooks/gitea", {}, b"{}").status == 200
        server.held.release.set()


# The end


def test_stop_answers_requests_in_progress_and_ends_with_everything_open() -> None:
    with http_servers.running() as server, contextlib.ExitStack() as until_closed:
        kept = server.connect()
        until_closed.enter_context(contextlib.closing(kept))
        kept.sendall(request("GET", "/healthz"))
        assert read(kept).status == 200
        slow = [client for head in SLOW.values() for client in [server.send(head)]]
        for client in slow:
            until_closed.enter_context(contextlib.closing(client))
        with opened(server, 1, request("GET", "/workflows/hang", BEARER)) as (working,):
            wait_until(lambda: server.held.entered, "the request to begin")
            server.server.stop(60)
            assert kept.recv(1) == b"", "an idle connection ends at once"
            server.held.release.set()
            assert read(working).status == 200
        server.thread.join(60)
        assert not server.thread.is_alive()
        with pytest.raises(ConnectionError):
            server.connect()


def test_stop_does_not_wait_for_a_request_that_never_ends() -> None:
    with http_servers.running() as server, opened(server, 1, request("GET", "/workflows/hang", BEARER)) as (working,):
        wait_until(lambda: server.held.entered, "the request to begin")
        server.server.stop(0.2)
        server.thread.join(60)
        assert not server.thread.is_alive()
        assert working.recv(1) == b""


def test_small_responses_are_sent_at_once(server: Running) -> None:
    with contextlib.closing(server.connect()) as client:
        client.sendall(request("GET", "/healthz"))
        assert read(client).status == 200
        sockets = [connection.socket for connection in server.server.active_channels.values()]
        assert all(found is not None and found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for found in sockets)
