"""Predictions of the embedded server need a token, unless the application is public."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from fuseml.embedded import broker, mount
from fuseml.runtime import auth, clock
from fuseml.store import applications, database
from tests import databases

TOKEN = {"Authorization": "Bearer t"}
DOCUMENT: dict[str, Any] = {"name": "wine", "type": "predictor", "workflow": "w", "model": "models:/wine/1"}


class Apps:
    """Model servers that answer everything."""

    def request(self, name: str, method: str, path: str, headers: object, body: bytes) -> broker.Answer:
        return broker.Answer(200, {}, f"{name} {path}".encode())

    def status(self, name: str) -> object:
        raise AssertionError(f"the status of {name} is for callers with a token")


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[database.Database]:
    opened = databases.on_sqlite(tmp_path / "fuseml.db")
    yield opened
    opened.close()


@pytest.fixture
def client(store: database.Database) -> FlaskClient:
    tokens = auth.Tokens({auth.digest_of("t"): auth.Caller("admin", "admin")})
    app = mount.own_app(Apps(), {}, tokens, lambda: {"status": "ready"}, store)  # type: ignore[arg-type]
    return app.test_client()


def register(store: database.Database, name: str, **fields: object) -> None:
    with store.write() as session:
        applications.put(session, name, {**DOCUMENT, **fields}, clock.now())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("fields", "status"), [({}, 401), ({"public": False}, 401), ({"public": None}, 401), ({"public": True}, 200)])
def test_predictions_need_a_token_unless_the_application_is_public(
    store: database.Database, client: FlaskClient, method: str, fields: dict[str, object], status: int
) -> None:
    register(store, "wine", **fields)
    path = "/apps/wine/v2/models/wine/infer"
    assert client.open(path, method=method).status_code == status
    assert client.open(path, method=method, headers=TOKEN).status_code == 200
    # A wrong token is a mistake of the caller, whatever the application is.
    assert client.open(path, method=method, headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.get("/apps/wine").status_code == 401


@pytest.mark.parametrize("name", ["none", "a%00b", "%ff", "%ed%a0%80", "wine%0a", "x" * 64, "WINE"])
def test_the_openness_of_other_names_needs_a_token(store: database.Database, client: FlaskClient, name: str) -> None:
    register(store, "wine", public=True)
    assert client.get(f"/apps/{name}/v2").status_code in (400, 401)
