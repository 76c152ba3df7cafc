"""`fuseml run compare`: facts of several runs side by side, and their charts."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.cli import charts, main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, Request
from tests.unit.test_cli import variables

NAMES = ("a-1", "a-2", "a-3")
ALPHAS = {"a-1": "0.1", "a-2": "0.5", "a-3": "0.1"}
RMSE = {"a-1": "53.5", "a-2": None, "a-3": "-7.25"}


def run(name: str) -> dict[str, object]:
    return {**canned_api.RUN, "name": name}


def diff(request: Request) -> Answer:
    _, _, first, _, second = request.path.split("/")
    assert request.query == {"all": ["true"]}
    facts = [
        ("parameter", "alpha", ALPHAS[first], ALPHAS[second]),
        # The API leaves out what an input shows already; the third run has no plan.
        *([("parameter", "fit.alpha", ALPHAS[first], ALPHAS[second])] if second == "a-3" else []),
        ("parameter", "fit.MODE", "fast", None if second == "a-3" else "slow"),
        ("tool", "fit.tracking.version", "3.17.2", "3.17.2"),
        ("metric", "fit.rmse", RMSE[first], RMSE[second]),
    ]
    listed = [{"kind": kind, "name": name, "a": a, "b": b, "equal": a == b} for kind, name, a, b in facts]
    return Answer({"a": first, "b": second, "equal": False, "same_results": False, "differences": listed})


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    routes: dict[tuple[str, str], canned_api.Route] = {("GET", f"/runs/{name}"): Answer(run(name)) for name in NAMES}
    routes |= {("GET", f"/runs/a-1/diff/{name}"): diff for name in NAMES}
    listed = [run(name) for name in reversed(NAMES)]
    routes["GET", "/runs"] = lambda request: Answer([] if request.query.get("project") == ["empty"] else listed)
    with canned_api.serve(routes) as running:
        yield running


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


def test_runs_stand_side_by_side_with_what_differs(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run compare a-1 a-2 a-3") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        ["Parameters:"],
        ["a-1", "a-2", "a-3"],
        ["alpha", "0.1", "0.5", "0.1"],
        ["Metrics:"],
        ["a-1", "a-2", "a-3"],
        ["fit.rmse", "53.5", "-", "-7.25"],
        ["Durations:"],
        ["a-1", "a-2", "a-3"],
        ["run", "1m04s", "1m04s", "1m04s"],
        ["trainer", "30s", "30s", "30s"],
    ]


def test_equal_facts_are_shown_on_request_and_programs_get_numbers(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without names, the newest runs: the oldest of them first.
    assert fuseml(server, tmp_path, "run compare --last 3 --all -o json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == list(NAMES)
    facts = {fact["name"]: fact for fact in found["facts"]}
    assert facts["fit.tracking.version"]["equal"]
    assert facts["fit.rmse"]["values"] == {"a-1": 53.5, "a-2": None, "a-3": -7.25}
    assert facts["run"]["values"]["a-1"] == 64.0
    assert facts["fit.MODE"]["values"] == {"a-1": "fast", "a-2": "slow", "a-3": None}
    assert "fit.alpha" not in facts


def test_metrics_are_drawn_in_the_terminal(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run compare a-1 a-3 --plot --metric rmse") == 0
    _, _, drawn = capsys.readouterr().out.partition("\nfit.rmse\n")
    first, second, *_ = drawn.splitlines()
    assert (first.split()[0], first.split()[-1], second.split()[0], second.split()[-1]) == ("a-1", "53.5", "a-3", "-7.25")
    # A negative number has its bar on the left of zero.
    assert second.index("█") < first.index("█") or "█" not in second
    assert first.count("█") > second.count("█")


@pytest.mark.parametrize("ending", charts.FILES)
def test_charts_are_written_to_a_file(ending: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if ending == ".png":
        pytest.importorskip("matplotlib")
    file = tmp_path / f"comparison{ending}"
    assert fuseml(server, tmp_path, f"run compare a-1 a-2 a-3 --to {file}") == 0
    assert capsys.readouterr().err == f"{file} is written.\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    content = file.read_bytes()
    if ending == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        assert b"53.5" in content
        # Nothing is loaded from elsewhere.
        assert content.count(b"http") == content.count(b'"http://www.w3.org/2000/svg"')


def test_names_in_charts_are_text() -> None:
    chart = charts.Chart("<b>", {"a&b": 1.0, "c\x1b[2J": None})
    image = charts.svg([chart])
    texts = [element.text for element in xml.etree.ElementTree.fromstring(image) if element.tag.endswith("text")]
    assert texts == ["<b>", "a&b", "1", "c\u241b[2J"]
    assert "<script>" not in charts.page("<script>", [chart], {"<script>": [["<script>"], ["<script>"]]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a-1", "a comparison needs two or more different runs"),
        ("a-1 a-1", "a comparison needs two or more different runs"),
        ("-p empty", "there are fewer than two runs in project empty"),
        ("a-1 a-2 --metric rsme", "no run has a metric 'rsme'; there are: fit.rmse, rmse"),
        ("a-1 a-2 --to chart.gif", "chart.gif is of no known kind; the name ends with .html, .svg or .png"),
        ("a-1 a-2 --to nowhere/chart.svg", "nowhere/chart.svg cannot be written: No such file or directory"),
    ],
)
def test_an_impossible_comparison_is_one_line(
    line: str, message: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, f"run compare {line}") == 1
    error = capsys.readouterr().err
    assert (error.count("\n"), error.startswith(f"error: {message}")) == (1, True)
