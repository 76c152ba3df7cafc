"""Secrets of a codeset: replaced, revoked, recorded in the ledger, and new when the codeset is registered anew."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from fuseml.domain import events
from fuseml.embedded import composition
from fuseml.runtime import catalog, clock
from fuseml.store import codesets, database, webhooks
from fuseml.usecases import git_access


class Server:
    """The embedded server, not started."""

    def __init__(self, parts: composition.Parts) -> None:
        self.parts, self._client = parts, Client(parts.gateway)

    @property
    def store(self) -> database.Database:
        return self.parts.state.store

    def call(self, method: str, path: str, status: int = 200) -> Any:
        answer = self._client.open(path, method=method, headers={"Authorization": "Bearer admin", catalog.CLIENT: "tests"})
        assert answer.status_code == status, answer.text
        return answer.json if answer.data else None

    def register(self) -> Any:
        return self.call("POST", "/codesets?project=demo&name=wine", 201)

    def git(self, password: str) -> int:
        """The status of a fetch with this password."""
        account = base64.b64encode(f"any:{password}".encode()).decode()
        path = "/git/demo/wine.git/info/refs?service=git-upload-pack"
        return self._client.get(path, headers={"Authorization": f"Basic {account}"}).status_code

    def webhook_secrets(self) -> list[str]:
        with self.store.read() as session:
            sealed = webhooks.of_codeset(session, codesets.codeset(session, "demo", "wine"), clock.now())
        return [self.parts.state.keyring.unseal(each) for each in sealed]

    def rotations(self) -> list[Any]:
        listed = self.call("GET", f"/events?type={events.CodesetRotated.TYPE}")
        return [self.call("GET", f"/events/{row['number']}")["data"] for row in listed]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=False, environment={})
    with contextlib.closing(parts.state.store):
        yield Server(parts)


def test_a_replaced_password_ends_at_once(server: Server) -> None:
    first = server.register()["password"]
    assert server.register()["password"] == first
    answer = server.call("POST", "/codesets/demo/wine/password")
    second = answer["password"]
    assert answer["codeset"]["name"] == "wine"
    assert [server.git(password) for password in (first, second, "", "admin", "other")] == [401, 200, 401, 200, 401]
    assert server.register()["password"] == second


def test_a_codeset_that_is_registered_anew_has_new_secrets(server: Server) -> None:
    seen: set[str] = set()
    for _ in range(3):
        password = server.register()["password"]
        own = {password, *server.webhook_secrets()}
        assert own.isdisjoint(seen)
        assert [server.git(former) for former in seen] == [401] * len(seen)
        server.call("POST", "/codesets/demo/wine/webhook")
        seen |= {*own, *server.webhook_secrets()}
        server.call("DELETE", "/codesets/demo/wine", 204)
        assert server.git(password) == 401


def test_a_revoked_webhook_secret_ends_with_all_former_ones(server: Server) -> None:
    server.register()
    server.call("POST", "/codesets/demo/wine/webhook")
    assert len(server.webhook_secrets()) == 2
    answer = server.call("POST", "/codesets/demo/wine/webhook?revoke=true")
    assert server.webhook_secrets() == [answer["secret"]]
    assert answer["former_until"] <= clock.now()


def test_rotations_are_in_the_ledger_without_the_secrets(server: Server) -> None:
    server.register()
    server.call("POST", "/codesets/demo/wine/webhook")
    revoked = server.call("POST", "/codesets/demo/wine/webhook?revoke=true")["secret"]
    password = server.call("POST", "/codesets/demo/wine/password")["password"]
    rotations = server.rotations()
    assert [(row["kind"], row["revoked"], row["by"]) for row in reversed(rotations)] == [
        ("webhook", False, "admin"),
        ("webhook", True, "admin"),
        ("password", True, "admin"),
    ]
    assert revoked not in str(rotations)
    assert password not in str(rotations)


def test_the_password_of_a_former_release_stays_valid_until_it_is_replaced(server: Server) -> None:
    server.register()
    with server.store.write() as session:
        row = codesets.codeset(session, "demo", "wine")
        row.git_password = None
        session.add(row)
    derived = server.parts.state.keyring.derive("git:demo/wine")
    assert (server.git(derived), server.register()["password"]) == (200, derived)
    server.call("POST", "/codesets/demo/wine/password")
    assert server.git(derived) == 401


def test_a_rotation_of_the_keys_seals_passwords_again(server: Server) -> None:
    password = server.register()["password"]
    with server.store.read() as session:
        before = codesets.codeset(session, "demo", "wine").git_password
    server.call("POST", "/extensions/secrets/rotate")
    with server.store.read() as session:
        row = codesets.codeset(session, "demo", "wine")
    assert row.git_password != before
    assert git_access.password(server.parts.state.keyring, row) == password
    assert server.git(password) == 200
