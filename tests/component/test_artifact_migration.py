"""The artifacts of the previous schema keep their facts in the new columns, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping

import alembic.command
import sqlalchemy

from fuseml.domain.artifacts import search
from fuseml.store import artifact_search, artifacts, database, migrations, paging

DIGEST = f"sha256:{'1' * 64}"
COMMIT = "a" * 40


def insert(store: database.Database, address: str, details: Mapping[str, object]) -> None:
    """As the previous release does: without the new columns."""
    kind, rest = address.split("://")
    project, name, version = rest.split("/")
    row = {"address": address, "kind": kind, "project": project, "name": name, "version": version, "details": json.dumps(details)}
    with store.write() as session:
        names = [*row, "created"]
        text = f"INSERT INTO artifact ({', '.join(names)}) VALUES ({', '.join(f':{column}' for column in names)})"
        session.execute(sqlalchemy.text(text), {**row, "created": "2026-01-01T00:00:00.000000Z"})


def test_recorded_artifacts_get_their_columns_and_metrics(empty_database_url: str) -> None:
    store = database.Database(empty_database_url)
    settings = migrations.config()
    with store.engine.begin() as connection:
        settings.attributes["connection"] = connection
        alembic.command.upgrade(settings, "0006")
    model = {"uri": "models:/m/1", "digest": DIGEST, "metrics": {"rmse": 0.5, "name": "x", "nan": None, "on": True}}
    insert(store, "model://p/m/1", model)
    # As steps have reported them.
    odd = {"big": 10**400, "small": -(10**400), "nul\0": 1, "half \ud800": 1, "name " + "x" * 300: 1, "text": "1", "r2": 1}
    insert(store, "model://p/m/0", {"uri": "models:/m/0", "metrics": odd})
    insert(store, "model://p/m/2", {"uri": "models:/m/2", "digest": "no digest", "metrics": "none"})
    insert(store, f"code://p/c/{COMMIT}", {"ref": "refs/heads/main"})
    insert(store, "dataset://p/d/1", {"uri": "s3://b/d", "digest": DIGEST, "rows": "4"})
    store.migrate()
    # The previous release may still run.
    insert(store, "model://p/m/3", {"uri": "models:/m/3", "digest": DIGEST})
    with store.read() as session:
        rows = artifact_search.page(session, paging.Page(), search.Search(), artifact_search.Origin()).rows
        facts = {row.address: (row.format, row.digest, row.location) for row in rows}
        assert facts == {
            f"code://p/c/{COMMIT}": ("git", f"gitCommit:{COMMIT}", None),
            "dataset://p/d/1": (None, DIGEST, "s3://b/d"),
            "model://p/m/0": ("mlflow", None, "models:/m/0"),
            "model://p/m/1": ("mlflow", DIGEST, "models:/m/1"),
            "model://p/m/2": ("mlflow", None, "models:/m/2"),
            "model://p/m/3": (None, None, None),
        }
        assert artifacts.metrics_of(session, list(facts)) == {"model://p/m/0": {"r2": 1.0}, "model://p/m/1": {"rmse": 0.5}}
        assert artifacts.get(session, "model://p/m/1").details == model
        assert artifacts.digest(session, "model://p/m/3") == DIGEST
    store.close()
