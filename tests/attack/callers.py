"""One caller that occupies connections and threads, and sends large bodies."""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
from collections.abc import Callable

from tests.attack.target import Attack, Target, check
from tests.component.http_servers import is_open, request
from tests.embedded import slow_clients
from tests.waiting import wait_until

_SILENT = 101
_DECLARED = 1 << 30
# A server that reads this much has not asked for a token first; the buffers of both kernels are far smaller.
_SENT = 64 << 20


def _answers(target: Target, held: str) -> None:
    """Health, control and other applications answer, while something is held."""
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/projects", 200), ("/apps/other/v2", 404)):
        target.expect_answer(path, status, f"while {held}")


def _held(target: Target, heads: Callable[[Target], list[bytes]], name: str) -> None:
    with contextlib.ExitStack() as until_closed:
        for head in heads(target):
            slow_clients.connections(target.port, _SILENT, head, until_closed)
        _answers(target, f"{_SILENT} connections are {name}")


def _large_bodies(target: Target) -> None:
    paths = [
        "/workflows",
        "/extensions",
        "/git/p/c.git/git-receive-pack",
        "/apps/x/infer",
        "/mlflow/api/2.0/mlflow/runs/create",
        "/nothing",
    ]
    for path, token in itertools.product(paths, ("", "Bearer wrong", "Basic eDp5")):
        authorization = {"Authorization": token} if token else {}
        head = request("POST", path, {**authorization, "Content-Type": "application/json", "Content-Length": str(_DECLARED)})
        with contextlib.closing(socket.create_connection(("127.0.0.1", target.port), timeout=30)) as client:
            client.sendall(head)
            taken = _taken(client)
        check(taken < _SENT, f"POST {path} reads {taken >> 20} MiB of a body before it looks at the token {token!r}")


def _taken(client: socket.socket) -> int:
    """The bytes that the server takes until it answers or closes."""
    sent, block = 0, bytes(1 << 16)
    while sent < _SENT and is_open(client):
        try:
            client.sendall(block)
        except (ConnectionError, TimeoutError):
            break
        sent += len(block)
    return sent


def _long_heads(target: Target) -> None:
    for head in (
        f"GET /{'x' * (1 << 20)} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {'x' * (1 << 20)}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n" + "X-A: b\r\n" * (1 << 17) + "\r\n",
    ):
        with contextlib.closing(socket.create_connection(("127.0.0.1", target.port), timeout=30)) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(head.encode())
            wait_until(functools.partial(lambda opened: not is_open(opened), client), "a head of a MiB to be refused")
            with contextlib.suppress(ConnectionError):
                line = client.recv(100)
                check(line[9:10] in (b"4", b""), f"a head of a MiB was answered with {line!r}")


def _cold_model(target: Target) -> None:
    name = target.name("hang")
    body = {"name": name, "type": "predictor", "workflow": "w", "model": "models:/m/1"}
    with slow_clients.unresponsive() as tracker, contextlib.ExitStack() as until_closed:
        target.post("/applications", {**body, "tracking_uri": tracker})
        head = request("POST", f"/apps/{name}/invocations", target.bearer(**{"Content-Type": "application/json"}), b"{}")
        waiting = slow_clients.connections(target.port, _SILENT, head, until_closed)
        try:
            wait_until(lambda: sum(not is_open(client) for client in waiting) >= 16, "requests beyond the queue to be refused")
            _answers(target, f"{_SILENT} requests wait for a model")
        finally:
            target.call("DELETE", f"/applications/{name}")


ATTACKS = (
    Attack(
        "silent connections",
        "101 silent connections delay no other request",
        functools.partial(_held, heads=lambda _: [b""], name="silent"),
    ),
    Attack(
        "slow heads and bodies",
        "303 requests that do not go on delay no other request",
        functools.partial(_held, heads=lambda target: slow_clients.heads(target.token), name="slow"),
    ),
    Attack("large bodies without a token", "a body is read after its sender is authenticated", _large_bodies),
    Attack("long heads", "a head of a MiB is refused", _long_heads),
    Attack("a model that does not load", "requests that wait for a model delay no other request, and are bounded", _cold_model, slow=True),
)
