"""Concurrent writers on one record: with `If-Match` one wins, without it all changes are kept."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable

import flask
import pytest

from fuseml.store import database
from tests.component import extensions_app


@pytest.fixture
def app(tmp_path: pathlib.Path, store: database.Database) -> flask.Flask:
    return extensions_app.Registry(tmp_path, store).app


def _together(actions: list[Callable[[], int]]) -> list[int]:
    """The statuses of simultaneous calls."""
    start = threading.Barrier(len(actions))
    statuses: list[int] = []

    def act(action: Callable[[], int]) -> None:
        start.wait()
        statuses.append(action())

    threads = [threading.Thread(target=act, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(statuses)


def _put(app: flask.Flask, body: object, revision: str | None) -> Callable[[], int]:
    headers = {"If-Match": revision} if revision else {}
    return lambda: app.test_client().put("/extensions/store", json=body, headers=headers).status_code


def test_with_if_match_one_writer_wins_and_the_others_get_412(app: flask.Flask) -> None:
    client = app.test_client()
    client.post("/extensions", json={"id": "store", "product": "minio"})
    for round in range(10):
        revision = client.get("/extensions/store").headers["ETag"]

        assert _together([_put(app, {"description": f"{round}-{writer}"}, revision) for writer in range(4)]) == [200, 412, 412, 412]

        assert client.get("/extensions/store").headers["ETag"] == f'"{round + 2}"'


def test_without_if_match_the_changes_of_all_writers_are_kept(app: flask.Flask) -> None:
    client = app.test_client()
    client.post("/extensions", json={"id": "store", "product": "minio"})

    assert _together([_put(app, {"services": [{"id": f"s{writer}"}]}, None) for writer in range(8)]) == [200] * 8

    record = client.get("/extensions/store").json
    assert record is not None
    assert {service["id"] for service in record["services"]} == {f"s{writer}" for writer in range(8)}
    assert record["revision"] == 9


def test_one_of_several_registrations_of_an_id_succeeds(app: flask.Flask) -> None:
    create = [lambda: app.test_client().post("/extensions", json={"id": "new"}).status_code for _ in range(6)]

    assert _together(create) == [201, 409, 409, 409, 409, 409]
