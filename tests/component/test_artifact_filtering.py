"""Search of artifacts over HTTP, by filters and patterns; on SQLite and PostgreSQL."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml.domain.artifacts import conditions
from fuseml.domain.registry import constraint
from fuseml.store import database
from tests.component.registered import NOON, Registered, furnish


@pytest.fixture
def api(store: database.Database) -> Registered:
    return Registered(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Registered:
    """For rules that do not depend on the database."""
    return Registered(sqlite_store)


@pytest.mark.parametrize("limit", ["1", "2", "100"])
def test_filters_admit_the_artifacts_that_pass_all_of_them(api: Registered, limit: str) -> None:
    furnish(api)

    def found(**filters: str | list[str]) -> list[str]:
        addresses = api.search(limit=limit, **filters)
        assert addresses == sorted(addresses)
        return [address.removeprefix("model://demo/wine/") for address in addresses]

    assert len(found()) == 8
    assert found(kind="model", project="demo") == ["1", "2", "3", "4", "5", "6"]
    assert found(kind="model", project="demo", name="wine", format="onnx") == ["2", "4", "6"]
    assert found(project="other") == ["model://other/wine/1"]
    assert found(type="text/csv") == ["dataset://demo/wine/1"]
    assert found(tag="best") == ["3"]
    assert found(label="reviewed") == ["3", "4"]
    assert found(label=["reviewed", "eu"]) == found(tag="best", label="eu", where="metrics.rmse<1") == ["3"]
    assert found(where="metrics.rmse<0.3") == ["1", "2", "model://other/wine/1"]
    assert found(where=["metrics.rmse >= 0.2", "metrics.r2 > 0.55"], project="demo") == ["2", "3", "4"]
    assert found(where="metrics.rmse=0.2") == found(where="metrics.rmse == 0.2") == ["2"]
    assert found(where="metrics.accuracy>0") == []
    assert found(framework="scikit-learn") == ["1", "2", "3", "4", "5", "6"]
    assert found(framework="scikit-learn>=1.4") == ["4", "5"]
    assert found(framework="scikit-learn>=1.4-0") == ["4", "5", "6"]
    assert found(framework="scikit-learn !=1.2.x, <1.4") == ["1", "3"]
    assert found(framework="torch") == ["model://other/wine/1"]
    assert found(framework="torch>=1") == []
    assert found(run="train-1") == found(producer="train-1") == found(producer="train", step="fit") == ["2"]
    assert found(producer="serve") == []
    assert len(found(since=NOON)) == 8
    assert found(before=NOON) == []
    assert found(pattern="model://demo/*?format=mlflow&framework=scikit-learn<1.5&metrics.rmse<0.3") == ["1"]
    assert found(pattern="model://*", project="other") == ["model://other/wine/1"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("kind=modell", "'image'"),
        ("where=rmse<1", "metrics.rmse < 0.8"),
        ("framework=sk>=", "is not a version constraint"),
        ("pattern=model", "is not a pattern to search for"),
        ("pattern=model://*&kind=code", "nothing is both"),
        ("since=yesterday", "since"),
        ("tag=a/b", "is not a tag"),
        ("label=a/b", "is not a label"),
        ("cursor=x", "cursor"),
        ("colour=red", "unknown key"),
    ],
)
def test_a_wrong_search_is_refused(small: Registered, query: str, word: str) -> None:
    assert word in small.call("GET", f"/artifacts?{query}", status=400)["message"]


_condition = st.builds(
    conditions.Condition,
    st.sampled_from(["rmse", "r2"]),
    st.sampled_from(sorted(conditions.OPERATORS)),
    st.sampled_from([-1.0, 0.1, 0.2, 0.5]),
)


@given(st.lists(_condition, max_size=2), st.sampled_from(["", "=1.2.0", "!=1.2.0", ">1.1", "~1.3", "1.x", "^2 || 1.5.x", ">=1.6-rc0"]))
@settings(suppress_health_check=list(HealthCheck), max_examples=40)
def test_the_database_finds_what_the_rules_admit(searched: Registered, wanted: list[conditions.Condition], versions: str) -> None:
    known = json.loads(searched.answer("GET", "/artifacts").text)
    expected = [
        item["address"]
        for item in known
        if all(condition.holds(item["metrics"]) for condition in wanted)
        and (not versions or (item["framework"] and constraint.satisfies(item["framework"]["version"], versions)))
        and (not versions or item["framework"]["name"] == "scikit-learn")
    ]
    filters: dict[str, str | list[str]] = {"where": [str(condition) for condition in wanted], "limit": "2"}
    if versions:
        filters["framework"] = f"scikit-learn {versions}"
    assert searched.search(**filters) == expected


@pytest.fixture
def searched(small: Registered) -> Registered:
    furnish(small)
    return small
