"""Attacks report a success against a server without the defence that they attack; else their `defended` would prove nothing."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import custody
from fuseml.domain.workflows import loading
from fuseml.embedded import composition, http_server
from fuseml.githosts import git_protocol, ref_moves
from fuseml.runtime import web_pages
from fuseml.usecases import git_access
from fuseml.webhooks import gitea
from tests.attack import __main__ as command
from tests.attack import campaign, git
from tests.attack.target import Attack, Target, loopback_port
from tests.embedded import servers
from tests.waiting import PATIENCE

TABLE = {attack.name: (border, attack) for border, attacks in campaign.BORDERS.items() for attack in attacks}


def attack(name: str, target: Target) -> campaign.Result:
    border, found = TABLE[name]
    return campaign.attempt(target, border, found)


class Undefended(http.server.BaseHTTPRequestHandler):
    """Answers 200 to everything, after it has read the whole body; one connection at a time."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (block := self.rfile.read(min(left, 1 << 16))):
            left -= len(block)
        paths: dict[str, Any] = {"/things": {"get": {"parameters": [{"name": "offset", "in": "query", "schema": {"type": "integer"}}]}}}
        paths["/things"]["post"] = {"parameters": [], "requestBody": {}}
        body: object = {"paths": paths} if self.path == "/openapi.json" else []
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Queueing(http.server.HTTPServer):
    # Connections beyond it are not accepted by the kernel, and so could not be opened.
    request_queue_size = 1000


@pytest.fixture
def undefended(tmp_path: pathlib.Path) -> Iterator[Target]:
    server = Queueing(("127.0.0.1", 0), Undefended)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Target(f"http://127.0.0.1:{server.server_port}", "token", tmp_path, cases=5)
    server.shutdown()
    server.server_close()


UNDEFENDED = [
    "ways up to event endpoints",
    "headers that rewrite the path",
    "two lengths",
    "forged events",
    "forged webhooks of MLflow",
    "other host names",
    "pages of other origins",
    "bodies without permission",
    "large bodies without a token",
    "numbers that no type holds",
    "text that is none",
]


@pytest.mark.parametrize("name", UNDEFENDED)
def test_an_attack_on_a_server_that_takes_everything_succeeds(undefended: Target, name: str) -> None:
    result = attack(name, undefended)
    assert (result.result, bool(result.evidence)) == ("succeeded", True), result


Disable = Callable[[pytest.MonkeyPatch], None]


def _accept_foreign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(web_pages.Entrance, "check", lambda *_: None)


def _quadratic(parsed: document.Parsed) -> None:
    for _ in range(len(repr(parsed.data)) ** 2 // 100):
        pass
    raise errors.InvalidError("read at last")


def _move_in_parts(patch: pytest.MonkeyPatch) -> None:
    move = ref_moves.move
    patch.setattr(ref_moves, "move", lambda *arguments, atomic: move(*arguments, atomic=False))


WEAKENED: dict[str, Disable] = {
    "other host names": _accept_foreign,
    "pages of other origins": _accept_foreign,
    "bodies without permission": lambda patch: patch.setattr(web_pages, "check_body", lambda *_: None),
    "secrets at changed addresses": lambda patch: patch.setattr(custody, "expect_given", lambda *_: None),
    "secrets at misspelled hosts": lambda patch: patch.setattr(custody, "expect_given", lambda *_: None),
    "secrets of moved applications": lambda patch: patch.setattr(custody, "expect_environment", lambda *_: None),
    "expressions that take long": lambda patch: patch.setattr(loading, "check", _quadratic),
    "accounts of others": lambda patch: patch.setattr(git_access, "is_password", lambda *_: True),
    "halves of atomic pushes": _move_in_parts,
    "forged webhooks": lambda patch: patch.setattr(gitea, "verify", lambda *_: None),
    "names of refs": lambda patch: patch.setattr(git_protocol, "check_ref_format", lambda _: True),
}


@contextlib.contextmanager
def serving(home: pathlib.Path) -> Iterator[Target]:
    """FuseML's own server in this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    parts = composition.compose(home, url, "token", mlflow="none", anonymous=False, environment={})
    server = http_server.HttpServer(parts.gateway, listener, parts.admissions.admit, http_server.Limits())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Target(url, "token", home, cases=40)
    finally:
        server.stop(PATIENCE)
        thread.join(PATIENCE)
        parts.state.store.close()


@pytest.mark.parametrize("name", WEAKENED)
def test_an_attack_succeeds_without_its_defence_only(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as target:
        assert attack(name, target).result == "defended"
        WEAKENED[name](monkeypatch)
        result = attack(name, target)
        assert result.result == "succeeded", result


OCCUPYING = ["silent connections", "slow heads and bodies"]


def test_connections_that_occupy_a_server_are_a_success(undefended: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has one thread, which waits for the first of the silent connections."""
    monkeypatch.setattr(servers, "PATIENCE", 2.0)
    for name in OCCUPYING:
        assert attack(name, undefended).result == "succeeded"


# No test shows that these succeed: their defence is no single check, or its absence would take memory, disk or time of this machine.
NOT_SHOWN = {
    "a model that does not load",
    "a push of 40,000 files",
    "document bombs",
    "long heads",
    "moves of refs",
    "odd authors",
    "packs that lie",
    "paths of odd pieces",
    "repeated webhooks",
    "secrets in answers",
    "sequences for the terminal",
    "tokens of steps",
}


def test_every_attack_is_shown_to_succeed_or_is_known_not_to_be() -> None:
    assert set(TABLE) - {*UNDEFENDED, *WEAKENED, *OCCUPYING} == NOT_SHOWN


@pytest.mark.parametrize("name", ["packs that lie", "names of refs"])
def test_an_attack_whose_pushes_reach_nothing_is_broken(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_receive", lambda *_: None)
    with serving(tmp_path) as target:
        result = attack(name, target)
    assert (result.result, "takes no valid push" in result.evidence) == ("broken", True), result


def test_an_attack_that_fails_by_itself_and_a_server_that_ends_are_no_defence(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = Target(f"http://127.0.0.1:{unused.getsockname()[1]}", "token", tmp_path)
    assert attack("forged webhooks", closed).result == "broken"

    def nothing(target: Target) -> None:
        """The server ends meanwhile."""

    assert campaign.attempt(closed, "x", Attack("x", "x", nothing)).result == "succeeded"


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8000", "https://127.0.0.1", "http://localhost.evil.example", "http://[::2]:80", "file:///x", "127.0.0.1:8000"]
)
def test_only_servers_of_this_machine_are_attacked(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--url", url, "--token", "t"])
    assert (ended.value.code, "127.0.0.1, ::1 or localhost only" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://127.3.2.1:8000/"])
def test_a_server_of_this_machine_may_be_attacked(url: str) -> None:
    assert loopback_port(url) == 8000


def test_a_success_is_reported_with_its_evidence(undefended: Target, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--url", undefended.url, "--token", "t", "--cases", "2", "--seed", "7"]
    assert command.main([*arguments, "--only", "web_pages", "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["seed"] == 7
    assert {result["result"] for result in report["results"]} == {"succeeded"}
    assert all("answers 200" in result["evidence"] or "takes a body" in result["evidence"] for result in report["results"])
    assert command.main([*arguments, "--only", "paths"]) == 1
    table = capsys.readouterr().out
    assert "two lengths" in table and "succeeded" in table
    assert max(map(len, table.splitlines())) <= 80
