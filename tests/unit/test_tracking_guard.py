"""The guard of MLflow's process and of model servers: nothing of a request without the key is read. The socket's folder is private."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from fuseml.embedded import tracking, tracking_app
from fuseml.steps import model_server

GUARDS: dict[str, Any] = {"MLflow": tracking_app.guarded, "model server": model_server.guarded}
KEY = "k" * 43


def answer(guard: str, headers: list[tuple[bytes, bytes]], kind: str = "http", key: str = KEY) -> list[Any]:
    """What the client gets; a request that passes gets `passed`."""
    sent: list[Any] = []

    async def application(_scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        await send("passed")

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    async def exchange() -> None:
        await GUARDS[guard](application, key)({"type": kind, "headers": headers}, receive, send)

    asyncio.run(exchange())
    return sent


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"wrong"], [KEY.encode()[:-1]], [KEY.encode() + b"k"], [KEY.encode(), b"wrong"], [KEY.encode()] * 2, [b"\xff"]],
    ids=str,
)
def test_a_request_without_the_one_key_is_refused(guard: str, values: list[bytes]) -> None:
    start, body = answer(guard, [(b"x-fuseml-key", value) for value in values])
    assert start["status"] == 401
    assert b"for the FuseML server only" in body["body"]


@pytest.mark.parametrize("guard", GUARDS)
def test_the_key_opens(guard: str) -> None:
    assert answer(guard, [(b"a", b"b"), (b"x-fuseml-key", KEY.encode())]) == ["passed"]


def test_websockets_need_the_key_and_the_start_of_the_process_does_not() -> None:
    assert answer("MLflow", [], "websocket") == [{"type": "websocket.close", "code": 1008}]
    assert answer("MLflow", [], "lifespan") == ["passed"]


def test_a_model_server_without_a_key_is_open_as_on_a_cluster() -> None:
    assert answer("model server", [], key="") == ["passed"]


@pytest.mark.parametrize("depth", [0, 60, 200])
def test_the_folder_of_the_socket_is_private_and_its_path_short(tmp_path: Path, depth: int) -> None:
    home = tmp_path.joinpath(*["d" * 20] * (depth // 20))
    home.mkdir(parents=True, exist_ok=True)
    with tracking._socket_folder(home) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(bytes(folder / "server.sock")) <= 100
