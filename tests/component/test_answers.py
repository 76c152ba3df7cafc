"""Bounds of the answers of other servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import urllib3

from fuseml.domain import errors
from fuseml.runtime import answers


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that answers one request and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def request(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.PoolManager(retries=False).request("GET", url, preload_content=False)


def endless(head: bytes, block: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while True:
            connection.sendall(block)

    return answer


def test_an_answer_within_its_bounds_is_read() -> None:
    with server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1234")) as url:
        assert answers.read(request(url), 4, 5.0, "the tool") == b"1234"


@pytest.mark.parametrize(("head", "block"), [(b"", b"x" * 4096), (b"Transfer-Encoding: chunked\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n")])
def test_an_endless_answer_is_refused(head: bytes, block: bytes) -> None:
    with (
        server(endless(head, block)) as url,
        pytest.raises(errors.PermanentError, match="the answer of the tool has more than 100000 bytes"),
    ):
        answers.read(request(url), 100_000, 60.0, "the tool")


def test_an_answer_that_drips_ends_with_its_time() -> None:
    with server(endless(b"", b"x")) as url, pytest.raises(errors.TemporaryError, match="did not finish its answer within 0 seconds"):
        answers.read(request(url), 100 << 20, 0.0, "the tool")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(errors.PermanentError, match="the answer of the tool is no JSON object"):
        answers.parsed(body, "the tool")
