"""One caller cannot take all: the server with hundreds of slow connections and requests to a model that does not load."""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests.component.http_servers import is_open, read, request
from tests.embedded import servers, slow_clients
from tests.waiting import wait_until

MANY = 300
WAITING = 100


@pytest.fixture
def unresponsive() -> Iterator[str]:
    with slow_clients.unresponsive() as url:
        yield url


def processes_of(home: pathlib.Path) -> list[str]:
    """The processes whose working folder is in the home."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(home):
                found.append(process.name)
    return found


def test_others_are_served_while_one_caller_takes_what_it_can(tmp_path: pathlib.Path, unresponsive: str) -> None:
    server = servers.Server(tmp_path / "home", "--mlflow", "none").start()
    try:
        with contextlib.ExitStack() as until_closed:
            registered = server.post("/codesets?project=p&name=code")
            checkout = servers.Checkout(tmp_path / "checkout", registered["codeset"]["url"], registered["username"], registered["password"])
            checkout.push("first")
            hang = {"name": "hang", "type": "predictor", "workflow": "w", "model": "models:/m/1", "tracking_uri": unresponsive}
            server.post("/applications", hang)
            token = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
            waiting = slow_clients.connections(server.port, WAITING, request("POST", "/apps/hang/invocations", token, b"{}"), until_closed)
            wait_until(lambda: processes_of(server.home), "the model server to start")
            wait_until(lambda: sum(not is_open(client) for client in waiting) >= 40, "requests beyond the queue to be refused")
            refused = [client for client in waiting if not is_open(client)]
            silent = slow_clients.connections(server.port, MANY, b"", until_closed)
            slow = [
                client
                for head in slow_clients.heads(server.token)
                for client in slow_clients.connections(server.port, MANY // 3, head, until_closed)
            ]

            assert server.call("GET", "/healthz").status == 200
            assert server.call("GET", "/readyz").status == 200
            assert server.get("/codesets")[0]["name"] == "code"
            assert server.call("GET", "/apps/other/v2").status == 404
            assert all(is_open(client) for client in [*silent, *slow]), "the calls were answered while the slow ones were open"
            servers.git(checkout.folder, "fetch", "--quiet", "origin")
            checkout.push("second")

            for client in refused:
                response = read(client)
                assert response.status == 503
                assert int(response.headers["retry-after"]) >= 1
                assert json.loads(response.body)["temporary"] is True
            assert len(refused) < WAITING
            assert sum(is_open(client) for client in waiting if client not in refused) > 0, "requests still wait for the model"

            # SIGTERM with all of it open.
            slow_clients.connections(server.port, MANY, b"", until_closed)
            assert server.stop(signal.SIGTERM) == 0
            assert processes_of(server.home) == [], "no process outlives the server"
    finally:
        server.stop()
