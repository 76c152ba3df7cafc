"""The common searches read indexes in the order of their pages: no search reads the artifacts one by one, and none sorts them."""

from __future__ import annotations

import urllib.parse

import pytest
import sqlalchemy

from fuseml.store import database
from tests.component.registered import Registered, furnish


@pytest.mark.parametrize(
    "filters",
    [
        {"kind": "model"},
        {"kind": "model", "project": "demo"},
        {"kind": "model", "project": "demo", "name": "wine"},
        {"kind": "model", "where": "metrics.rmse<0.8"},
        {"kind": "model", "framework": "scikit-learn"},
        {"kind": "model", "framework": "scikit-learn>=1.4"},
        {"label": "reviewed"},
        {"tag": "best"},
        {"tag": "best", "where": "metrics.rmse<0.8", "kind": "model"},
        {"run": "train-1"},
        {"pattern": "model://demo/*?format=mlflow&framework=scikit-learn>=1.4&metrics.rmse<0.8"},
    ],
)
def test_a_common_search_is_backed_by_indexes(sqlite_store: database.Database, filters: dict[str, str]) -> None:
    api = Registered(sqlite_store)
    furnish(api)
    statements: list[tuple[str, object]] = []
    sqlalchemy.event.listen(sqlite_store.engine, "before_cursor_execute", lambda *about: statements.append((about[2], about[3])))
    api.call("GET", f"/artifacts?{urllib.parse.urlencode(filters)}")
    read = [(text, given) for text, given in statements if "FROM artifact" in text]
    assert len(read) == 6, "the addresses, and then the artifacts, their metrics, tags, labels and copies"
    with sqlite_store.engine.connect() as connection:
        for text, given in read:
            plan = [str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)]  # type: ignore[arg-type]
            assert plan
            scans = [line for line in plan if line.startswith("SCAN") and "USING" not in line]
            assert scans == [], text
            if text is read[0][0]:
                assert not any("TEMP B-TREE" in line for line in plan), plan
