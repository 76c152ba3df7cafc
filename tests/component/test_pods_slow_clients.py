"""A function as a gunicorn process with slow clients: it answers others, and each slow client loses its connection."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.component import pods
from tests.component.http_servers import is_open, request
from tests.waiting import wait_until

THREADS = 4


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pods.Pod]:
    """The gateway, which needs no database."""
    pod = pods.Pod("gateway", {"THREADS": str(THREADS)}, tmp_path_factory.mktemp("pod") / "log")
    pod.start()
    pod.wait()
    yield pod
    pod.close()


SLOW = {
    "silent": b"",
    "part of a head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
    "part of a body": request("POST", "/runs/1/cancel", {"Content-Length": "100"}) + b"{",
    "part of chunks": request("POST", "/runs/1/cancel", {"Transfer-Encoding": "chunked"}) + b"64\r\n{",
}


@pytest.mark.parametrize("head", SLOW.values(), ids=SLOW)
def test_more_slow_clients_than_threads_end_and_others_are_answered(pod: pods.Pod, head: bytes) -> None:
    with contextlib.ExitStack() as until_closed:
        clients = [until_closed.enter_context(socket.create_connection(("127.0.0.1", pod.port))) for _ in range(THREADS + 2)]
        for client in clients:
            client.sendall(head)
        assert pod.send("GET", "/healthz", timeout=120).status == 200
        if head:
            wait_until(lambda: sum(not is_open(client) for client in clients) >= 3, "the slow clients to lose their connections")
            assert "Traceback" not in pod.log.read_text()
        else:
            assert all(is_open(client) for client in clients), "silent connections hold no thread"
