"""`fuseml artifact` against a real HTTP server with canned responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fuseml.cli import lineage_tree, main
from fuseml.client import api
from tests.component import canned_api
from tests.component.canned_api import CannedApi
from tests.unit.test_cli import one_line, variables

ADDRESS = "model://demo/diabetes/1"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve() as running:
        yield running


@pytest.fixture
def fuseml(server: CannedApi, tmp_path: Path) -> Run:
    server.requests.clear()
    return lambda *arguments: main.run(["artifact", *arguments], variables(tmp_path, server.url))


def test_filters_of_a_search_are_sent_as_they_stand(fuseml: Run, server: CannedApi) -> None:
    given = [
        "model://*",
        "-k",
        "model",
        "--where",
        "metrics.r2 > 0.1",
        "--where",
        "metrics.rmse<1",
        "--label",
        "eu",
        "--framework",
        "torch 2.x",
    ]
    assert fuseml("search", *given, "--content-format", "onnx", "--content-type", "text/csv", "--before", "2026-01-01T00:00:00Z") == 0
    assert server.requests[0].query == {
        "pattern": ["model://*"],
        "kind": ["model"],
        "where": ["metrics.r2 > 0.1", "metrics.rmse<1"],
        "label": ["eu"],
        "framework": ["torch 2.x"],
        "format": ["onnx"],
        "type": ["text/csv"],
        "before": ["2026-01-01T00:00:00Z"],
    }


@pytest.mark.parametrize(
    ("line", "method", "path", "query"),
    [
        (f"tag {ADDRESS} champion", "PUT", "tags/champion", {}),
        (f"tag {ADDRESS} champion --immutable", "PUT", "tags/champion", {"immutable": ["true"]}),
        (f"tag {ADDRESS} champion --movable", "PUT", "tags/champion", {"immutable": ["false"]}),
        (f"untag {ADDRESS} champion", "DELETE", "tags/champion", {}),
        (f"label {ADDRESS} reviewed", "PUT", "labels/reviewed", {}),
        (f"label {ADDRESS} reviewed --remove", "DELETE", "labels/reviewed", {}),
        (f"delete {ADDRESS}", "DELETE", "", {}),
        ("delete model://demo/diabetes@champion", "DELETE", "", {}),
    ],
)
def test_a_change_is_one_request(fuseml: Run, server: CannedApi, line: str, method: str, path: str, query: dict[str, Any]) -> None:
    assert fuseml(*line.split()) == 0
    sent = server.requests[-1]
    assert (sent.method, sent.path, sent.query) == (method, f"/artifacts/model/demo/diabetes/1/{path}".rstrip("/"), query)


@pytest.mark.parametrize("address", ["diabetes", "model://demo/diabetes", "modell://demo/a/1"])
def test_a_malformed_address_is_one_line_without_a_request(
    fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert fuseml("delete", address) == 1
    assert "model://project/name@tag" in one_line(capsys)
    assert server.requests == []


def test_a_slash_in_a_name_is_escaped_twice(server: CannedApi) -> None:
    found = api.Client(server.url, canned_api.TOKEN).artifacts.get("dataset://demo/raw/train/7")
    assert found["address"] == "dataset://demo/raw/train/7"


def test_a_descriptor_is_registered(server: CannedApi) -> None:
    assert api.Client(server.url, canned_api.TOKEN).artifacts.register({"address": ADDRESS, "size": 3}) == canned_api.ARTIFACT


def test_tags_and_metrics_are_shown(fuseml: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("get", ADDRESS) == 0
    printed = capsys.readouterr().out
    assert "Tags:      champion (immutable)\n" in printed
    assert "Framework: scikit-learn 1.4.2\n" in printed
    assert printed.count("53.1") == 1


def test_lineage_is_a_tree(fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("lineage", ADDRESS, "--direction", "both", "--depth", "3") == 0
    assert server.requests[0].query == {"direction": ["both"], "depth": ["3"]}
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "model://demo/diabetes/1",
        "├── Sources",
        "│   ├── code://demo/diabetes/3f2a91c4  by mlflow-e2e-1/trainer",
        "│   └── dataset://demo/raw/7  by mlflow-e2e-1",
        "└── Products",
        "    └── dataset://demo/scored/1  deleted",
    ]


def drawn(edges: list[tuple[str, str]], width: int = 80) -> list[str]:
    listed = [{"source": source, "target": target, "run": "r", "step": None} for source, target in edges]
    nodes = [{"address": name, "recorded": True} for name in {end for edge in edges for end in edge}]
    tree = lineage_tree.tree({"address": "a", "nodes": nodes, "edges": listed, "truncated": False})  # type: ignore[typeddict-item]
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(tree)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_shared_source_and_a_cycle_are_drawn_once() -> None:
    assert drawn([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("e", "d"), ("a", "e")]) == [
        "a",
        "├── Sources",
        "│   ├── b  by r",
        "│   │   └── d  by r",
        "│   │       └── e  by r",
        "│   │           └── a  by r  shown above",
        "│   └── c  by r",
        "│       └── d  by r  shown above",
        "└── Products",
        "    └── e  by r",
        "        └── d  by r",
        "            ├── b  by r",
        "            │   └── a  by r  shown above",
        "            └── c  by r",
        "                └── a  by r  shown above",
    ]


def test_a_long_address_in_the_tree_breaks_and_nothing_of_it_is_lost() -> None:
    lines = drawn([("b" * 100, "a")], width=30)
    assert all(len(line) <= 30 for line in lines)
    assert "".join(line.strip(" └─") for line in lines[2:]).startswith("b" * 100)
