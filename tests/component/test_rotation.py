"""Key rotation: all secrets are sealed again, none becomes unreadable, and an interrupted rotation can be repeated."""

from __future__ import annotations

import contextlib
import functools
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlmodel

from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from functions.extensions import rotation
from fuseml.domain import errors, plans
from fuseml.domain.registry import extension
from fuseml.runtime import auth, secrets
from fuseml.store import codesets, database, extensions
from fuseml.store.tables import codeset_rows, extension_rows
from tests import databases
from tests.component import endpoint

NOON = "2026-01-01T12:00:00.000000Z"


class Server:
    """One process of a server on a folder with its keys and database."""

    def __init__(self, folder: Path, store: database.Database | None = None) -> None:
        keys = secrets.KeyFile(folder / "keys")
        self.keyring = keys.keyring()
        self.store = store or databases.on_sqlite(folder / "registry.db")
        self.published = endpoint.Publisher()
        self.deps = extensions_deps.Deps(
            store=self.store,
            publisher=self.published,
            keyring=self.keyring,
            tokens=auth.Tokens({auth.digest_of("admin"): auth.Caller("a", "admin")}),
            renew=functools.partial(keys.renew, self.keyring),
        )
        self.app: flask.Flask = extensions_app.create_app(self.deps)

    def rotate(self, token: str = "admin", status: int = 200) -> dict[str, Any]:
        answer = self.app.test_client().post("/extensions/secrets/rotate", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
        result: dict[str, Any] = answer.get_json()
        return result

    def fill(self, records: int = 3) -> None:
        """Records with two secrets each, and a codeset."""
        with self.store.write() as session:
            for number in range(records):
                configuration = {
                    "KEY": self.keyring.seal(f"key-{number}"),
                    "ID": self.keyring.seal(f"id-{number}"),
                    "NONE": extension.HIDDEN,
                }
                service = {"id": "s", "credentials": [{"id": "c", "configuration": configuration}]}
                record = extension.Extension.model_validate({"id": f"e{number:04}", "revision": 5, "services": [service]})
                extensions.add(session, record, NOON)
            codesets.create_project(session, "p", "", NOON)
            sealed = self.keyring.seal("webhook")
            codesets.add_codeset(session, codeset_rows.Codeset(project="p", name="c", url="", webhook_secret=sealed, created=NOON))

    def unseal_all(self, keyring: secrets.Keyring | None = None, records: int = 3) -> list[str]:
        """Every secret, unsealed."""
        ring = keyring or self.keyring
        with self.store.read() as session:
            parts = [
                plans.SecretPart(extension=f"e{n:04}", service="s", credentials="c", key=key)
                for n in range(records)
                for key in ("KEY", "ID")
            ]
            values = [ring.unseal(extensions.sealed_secret(session, part)) for part in parts]
            return [*values, ring.unseal(codesets.codeset(session, "p", "c").webhook_secret)]


SECRETS = ["key-0", "id-0", "key-1", "id-1", "key-2", "id-2", "webhook"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.fill()
    yield running
    running.store.close()


def test_all_secrets_are_sealed_with_a_fresh_key(server: Server, tmp_path: Path) -> None:
    before = server.keyring.derive("git:p/c")
    assert server.rotate() == {"credentials": 6, "webhook_secrets": 1, "unreadable": []}
    newest, oldest = (tmp_path / "keys").read_text().split()
    assert server.unseal_all(secrets.Keyring([newest])) == SECRETS
    with pytest.raises(errors.PermanentError):
        server.unseal_all(secrets.Keyring([oldest]))
    assert server.keyring.derive("git:p/c") == Server(tmp_path).keyring.derive("git:p/c") == before
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_rotation_changes_no_revision(server: Server) -> None:
    server.rotate()
    with server.store.read() as session:
        row = session.get(extension_rows.ExtensionRecord, "e0000")
        assert row is not None
        assert (row.revision, row.updated, row.document["revision"]) == (5, NOON, 5)
        assert row.document["services"][0]["credentials"][0]["configuration"]["NONE"] == extension.HIDDEN
    assert server.published.events == []


def test_rotation_is_for_administrators_only(server: Server, tmp_path: Path) -> None:
    server.rotate(f"{auth.STEP_PREFIX}x", 403)
    server.rotate("unknown", 401)
    assert len((tmp_path / "keys").read_text().split()) == 1


def test_after_a_crash_before_sealing_the_next_rotation_completes(server: Server, tmp_path: Path) -> None:
    assert server.deps.renew is not None
    server.deps.renew()
    restarted = Server(tmp_path)
    assert restarted.unseal_all() == SECRETS
    assert restarted.rotate()["credentials"] == 6
    newest = (tmp_path / "keys").read_text().split()[0]
    assert restarted.unseal_all(secrets.Keyring([newest])) == SECRETS


class Failing(database.Database):
    """A database that fails after `left` transactions."""

    left = 1

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlmodel.Session]:
        if self.left == 0:
            raise errors.TemporaryError("the database is unavailable")
        self.left -= 1
        with super().write() as session:
            yield session


def test_an_interrupted_rotation_leaves_all_secrets_readable(tmp_path: Path) -> None:
    first = Server(tmp_path)
    first.fill(250)
    failing = Server(tmp_path, Failing(first.store.url))
    failing.rotate(status=503)
    newest = (tmp_path / "keys").read_text().split()[0]
    with pytest.raises(errors.PermanentError):
        first.unseal_all(secrets.Keyring([newest]), 250)
    restarted = Server(tmp_path)
    assert len(restarted.unseal_all(records=250)) == 501
    assert restarted.rotate() == {"credentials": 500, "webhook_secrets": 1, "unreadable": []}
    newest = (tmp_path / "keys").read_text().split()[0]
    assert len(restarted.unseal_all(secrets.Keyring([newest]), 250)) == 501
    for each in (first, failing, restarted):
        each.store.close()


def test_with_configured_keys_only_secrets_of_older_keys_are_sealed_again(server: Server, tmp_path: Path) -> None:
    old = (tmp_path / "keys").read_text().split()[0]
    keyring = secrets.Keyring([secrets.new_key(), old])
    deps = extensions_deps.Deps(store=server.store, publisher=server.published, keyring=keyring, tokens=server.deps.tokens)
    assert rotation.rotate(deps).credentials == 6
    assert rotation.rotate(deps) == rotation.RotationResult(credentials=0, webhook_secrets=0, unreadable=[])


def test_secrets_without_a_key_are_named_and_unchanged(server: Server) -> None:
    stranger = secrets.Keyring([secrets.new_key()]).seal("lost")
    with server.store.write() as session:
        row = session.get(extension_rows.ExtensionRecord, "e0001")
        assert row is not None
        document = json.loads(json.dumps(row.document))
        document["services"][0]["credentials"][0]["configuration"]["ID"] = stranger
        row.document = document
    assert server.rotate() == {"credentials": 5, "webhook_secrets": 1, "unreadable": ["extension e0001"]}
    with server.store.read() as session:
        part = plans.SecretPart(extension="e0001", service="s", credentials="c", key="ID")
        assert extensions.sealed_secret(session, part) == stranger
