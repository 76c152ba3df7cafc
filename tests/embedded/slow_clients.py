"""Clients that occupy a server: connections that stay silent or slow, and a tracking server that never answers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from tests.component.http_servers import request
from tests.waiting import PATIENCE


@contextlib.contextmanager
def unresponsive() -> Iterator[str]:
    """The address of a tracking server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def connections(port: int, count: int, head: bytes, until_closed: contextlib.ExitStack) -> list[socket.socket]:
    """Connections on each of which `head` was sent."""
    found = []
    for _ in range(count):
        client = until_closed.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)))
        client.sendall(head)
        found.append(client)
    return found


def heads(token: str) -> list[bytes]:
    """Beginnings of requests that do not go on: in the head, in a body with a token, in a body without."""
    bearer = {"Authorization": f"Bearer {token}"}
    return [
        b"GET /runs HTTP/1.1\r\nX-A: ",
        request("POST", "/workflows", {**bearer, "Content-Length": "1000"}) + b"name",
        request("POST", "/webhooks/gitea", {"Content-Length": "1000"}) + b"{",
    ]
