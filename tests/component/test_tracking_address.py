"""Records and applications that keep the address of the embedded MLflow follow it, from its own port of former releases, too."""

from __future__ import annotations

import pathlib

import pytest

from fuseml.domain.registry import extension
from fuseml.embedded import tracking_address
from fuseml.store import applications, database, extensions
from tests import databases

URL = "http://127.0.0.1:8000/mlflow"
NOW = "2026-01-01T00:00:00Z"


def record(id: str, url: str) -> extension.Extension:
    endpoints = [
        {"url": url, "type": "internal", "configuration": {"MLFLOW_TRACKING_URI": url, "OTHER": f"{url}0"}},
        {"url": f"{url}/api/2.0/mlflow-artifacts", "type": "internal"},
    ]
    service = {"id": "tracking", "resource": "mlflow-tracking", "endpoints": endpoints}
    return extension.Extension.model_validate({"id": id, "revision": 1, "services": [service]})


@pytest.fixture
def store(tmp_path: pathlib.Path) -> database.Database:
    made = databases.on_sqlite(tmp_path / "fuseml.db")
    with made.write() as session:
        extensions.add(session, record("mlflow", "http://127.0.0.1:5001"), NOW)
        extensions.add(session, record("other", "http://127.0.0.1:50010"), NOW)
        for name, address in (("own", "http://127.0.0.1:5001"), ("foreign", "http://127.0.0.1:50010")):
            applications.put(session, name, {"name": name, "type": "p", "workflow": "w", "tracking_uri": address}, NOW)
    return made


def state(store: database.Database) -> tuple[str, str, list[str]]:
    with store.read() as session:
        records = [extensions.get(session, id).model_dump_json() for id in ("mlflow", "other")]
        rows = [row.document["tracking_uri"] for row in applications.all_applications(session)]
        rows += [row.document["tracking_uri"] for row in applications.revisions(session, "own")]
    return records[0], records[1], rows


@pytest.mark.parametrize("known_by", ["port", "address"])
def test_addresses_follow(store: database.Database, tmp_path: pathlib.Path, known_by: str) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    (folder / known_by).write_text("5001\n" if known_by == "port" else "http://127.0.0.1:5001\n")
    other = state(store)[1]
    tracking_address.follow(store, folder, URL)
    moved, unchanged, rows = state(store)
    assert extension.Extension.model_validate_json(moved).services[0].endpoints[0].configuration == {
        "MLFLOW_TRACKING_URI": URL,
        "OTHER": "http://127.0.0.1:50010",
    }
    assert f'"{URL}/api/2.0/mlflow-artifacts"' in moved
    assert unchanged == other
    assert rows == ["http://127.0.0.1:50010", URL, URL]
    after = state(store)
    tracking_address.follow(store, folder, URL)
    assert state(store) == after
    again = URL.replace("8000", "8001")
    tracking_address.follow(store, folder, again)
    assert state(store)[2] == ["http://127.0.0.1:50010", again, again]
    assert sorted(path.name for path in folder.iterdir()) == ["address"]


def test_a_first_start_only_notes_the_address(store: database.Database, tmp_path: pathlib.Path) -> None:
    before = state(store)
    tracking_address.follow(store, tmp_path / "mlflow", URL)
    assert state(store) == before
    assert (tmp_path / "mlflow" / "address").read_text().strip() == URL
