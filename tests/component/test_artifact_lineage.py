"""The lineage of artifacts over HTTP, by direction and depth; on SQLite and PostgreSQL."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.artifacts import service
from fuseml.store import database, lineage
from tests.component.registered import Registered, path

MODEL = "model://demo/wine/1"


@pytest.fixture
def api(store: database.Database) -> Registered:
    return Registered(store)


@pytest.fixture
def small(sqlite_store: database.Database) -> Registered:
    """For rules that do not depend on the database."""
    return Registered(sqlite_store)


def chain(api: Registered, edges: list[tuple[str, str]]) -> None:
    with api.store.write() as session:
        for source, target in edges:
            lineage.link(session, f"model://demo/{source}/1", f"model://demo/{target}/1", "train-1", "fit")


def near(api: Registered, name: str, **query: object) -> tuple[set[str], bool]:
    found = api.call("GET", f"/lineage/model/demo/{name}/1?{urllib.parse.urlencode(query)}")
    return {"".join(edge[end].split("/")[3] for end in ("source", "target")) for edge in found["edges"]}, found["truncated"]


def test_lineage_is_read_by_direction_and_depth(api: Registered) -> None:
    chain(api, [("a", "b"), ("b", "c"), ("c", "d"), ("x", "c"), ("b", "y")])
    assert near(api, "c", direction="up", depth=1) == ({"bc", "xc"}, False)
    assert near(api, "c", direction="up") == ({"bc", "xc", "ab"}, False)
    assert near(api, "c", direction="down") == ({"cd"}, False)
    # What was made beside it from the same source is no relative of it.
    assert near(api, "c") == ({"bc", "xc", "ab", "cd"}, False)
    assert near(api, "a", direction="down", depth=2) == ({"ab", "bc", "by"}, False)
    [edge] = api.call("GET", "/lineage/model/demo/a/1?direction=down&depth=1")["edges"]
    assert edge == {"source": "model://demo/a/1", "target": "model://demo/b/1", "run": "train-1", "step": "fit"}
    assert api.call("GET", "/lineage?address=model://demo/a/1")[0] == edge
    assert api.call("GET", path("model://demo/b/1", "history"), status=404)["name"] == "not_found"


def test_a_cycle_in_the_lineage_ends(api: Registered) -> None:
    chain(api, [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")])
    assert near(api, "a", depth=100) == ({"ab", "bc", "ca", "aa"}, False)


def test_a_large_lineage_is_cut_and_reported_so(small: Registered) -> None:
    chain(small, [("a", f"b{number}") for number in range(service.MOST_EDGES)])
    edges, truncated = near(small, "a")
    assert (len(edges), truncated) == (service.MOST_EDGES, False)
    chain(small, [("a", "c")])
    edges, truncated = near(small, "a")
    assert (len(edges), truncated) == (service.MOST_EDGES, True)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14), st.integers(1, 8), st.sampled_from(["up", "down", "both"]))
@settings(suppress_health_check=list(HealthCheck), max_examples=40)
def test_a_neighbourhood_is_that_of_the_whole_graph(small: Registered, pairs: list[tuple[int, int]], depth: int, direction: str) -> None:
    edges = {(f"n{source}", f"n{target}") for source, target in pairs}
    expected = set()
    for way in ("up", "down") if direction == "both" else (direction,):
        frontier = {"n0"}
        for _ in range(depth):
            found = {edge for edge in edges if edge[way == "up"] in frontier}
            expected |= found
            frontier = {edge[way == "down"] for edge in found}
    with small.store.write() as session:
        session.execute(lineage.ArtifactEdge.metadata.tables["artifact_edge"].delete())
        for source, target in edges:
            lineage.link(session, source, target, "r")
        session.flush()
        read = lineage.neighbourhood(session, "n0", direction, depth, 1000)  # type: ignore[arg-type]
    assert {(edge.source, edge.target) for edge in read.edges} == expected
    assert not read.truncated


@pytest.mark.parametrize("query", ["direction=left", "depth=0", "depth=101", "depth=x"])
def test_a_wrong_question_about_lineage_is_refused(small: Registered, query: str) -> None:
    small.register(MODEL)
    small.call("GET", f"/lineage/model/demo/wine/1?{query}", status=400)


def test_the_lineage_of_an_unknown_artifact_is_not_found(small: Registered) -> None:
    small.call("GET", "/lineage/model/demo/wine/1", status=404)
    small.register(MODEL)
    assert near(small, "wine") == (set(), False)
