"""`fuseml application call`: rows become a request of the model's protocol; the request and the answer are printed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.cli import main
from fuseml.client import predictions
from fuseml.domain import errors
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import variables

MODEL = "/apps/demo-diabetes/v2/models/demo-diabetes"
METADATA = {
    "name": "m",
    "inputs": [{"name": "age", "datatype": "FP64", "shape": [-1]}, {"name": "sex", "datatype": "BYTES", "shape": [-1]}],
}
ANSWER = {"model_name": "m", "outputs": [{"name": "output-0", "datatype": "FP64", "shape": [1], "data": [160.5]}]}


@pytest.fixture
def server() -> Iterator[CannedApi]:
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/applications/demo-diabetes"): lambda _: Answer({**canned_api.APPLICATION, "url": f"{running.url}{MODEL}/infer"}),
        ("GET", "/applications/other"): lambda _: Answer({**canned_api.APPLICATION, "url": f"{running.url}/predict"}),
        ("GET", "/applications/new"): Answer({**canned_api.APPLICATION, "url": "", "status": "starting"}),
        ("GET", MODEL): Answer(METADATA),
        ("POST", f"{MODEL}/infer"): Answer(ANSWER),
        ("POST", "/predict"): Answer({"predictions": [1]}),
    }
    with canned_api.serve(routes) as running:
        yield running


def fuseml(server: CannedApi, home: Path, *line: str) -> int:
    return main.run(["application", "call", *line], variables(home, server.url))


def inputs(ages: list[float], sexes: list[str]) -> dict[str, object]:
    shape = [len(ages)]
    return {
        "inputs": [
            {"name": "age", "datatype": "FP64", "shape": shape, "data": ages},
            {"name": "sex", "datatype": "BYTES", "shape": shape, "data": sexes},
        ]
    }


@pytest.mark.parametrize(
    ("document", "sent"),
    [
        ({"age": 1, "sex": "f"}, inputs([1], ["f"])),
        ([{"sex": "f", "age": 1}, {"age": 2, "sex": "m"}], inputs([1, 2], ["f", "m"])),
        ({"dataframe_split": {"columns": ["sex", "age"], "data": [["f", 1]]}}, inputs([1], ["f"])),
        ({"dataframe_records": [{"age": 1, "sex": "f"}]}, inputs([1], ["f"])),
        ({"id": "mine", **inputs([3], ["f"])}, {"id": "mine", **inputs([3], ["f"])}),
    ],
    ids=["row", "rows", "split", "records", "request"],
)
def test_rows_become_a_request(
    document: object, sent: object, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "row.json"
    file.write_text(json.dumps(document))
    for data in (str(file), json.dumps(document)):
        assert fuseml(server, tmp_path, "demo-diabetes", "-d", data, "-o", "json") == 0
        shown = json.loads(capsys.readouterr().out)
        assert json.loads(server.requests[-1].body) == shown["request"] == sent
        assert (shown["answer"], shown["url"]) == (ANSWER, f"{server.url}{MODEL}/infer")


def test_the_request_and_the_answer_are_printed(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"age": 1, "sex": "f"}'))
    assert fuseml(server, tmp_path, "demo-diabetes", "-d", "-") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"POST {server.url}{MODEL}/infer",
        "{",
        '  "inputs": [',
        '    {"name": "age", "datatype": "FP64", "shape": [1], "data": [1]},',
        '    {"name": "sex", "datatype": "BYTES", "shape": [1], "data": ["f"]}',
        "  ]",
        "}",
        "",
        "Answer:",
        "{",
        '  "model_name": "m",',
        '  "outputs": [',
        '    {"name": "output-0", "datatype": "FP64", "shape": [1], "data": [160.5]}',
        "  ]",
        "}",
    ]


def test_without_an_input_example_zeros_are_sent(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "demo-diabetes", "--example") == 0
    assert json.loads(server.requests[-1].body) == inputs([0], [""])
    assert "The model has no input example; zeros are sent." in capsys.readouterr().err


def test_a_server_of_another_protocol_gets_its_own_request(server: CannedApi, tmp_path: Path) -> None:
    assert fuseml(server, tmp_path, "other", "-d", '{"instances": [[1]]}') == 0
    assert json.loads(server.requests[-1].body) == {"instances": [[1]]}


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["demo-diabetes"], 2, "give either --data or --example"),
        (["demo-diabetes", "--example", "-d", "{}"], 2, "give either --data or --example"),
        (["demo-diabetes", "-d", "{"], 1, "the data: no JSON: "),
        (["demo-diabetes", "-d", "missing.json"], 1, "there is no file missing.json"),
        (["demo-diabetes", "-d", "[1]"], 1, "the data are no rows"),
        (["demo-diabetes", "-d", '{"age": 1}'], 1, "the row lacks inputs of the model: sex"),
        (["demo-diabetes", "-d", '[{"age": 1, "sex": ""}, {"age": 1}]'], 1, "row 2 lacks inputs of the model: sex"),
        (["new", "-d", '{"age": 1}'], 1, "application 'new' has no URL yet; it is starting"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_sent(
    line: list[str], code: int, message: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, *line) == code
    assert capsys.readouterr().err.startswith(f"error: {'invalid value for ' if code == 2 else message}")
    assert not [request for request in server.requests if request.method == "POST"]


def test_a_placeholder_has_a_value_for_each_input() -> None:
    tensor = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]}
    row = predictions.placeholder(tensor)
    assert predictions.inference_request(tensor, [row]) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]
    }
    assert predictions.placeholder({"inputs": [{"name": "on", "datatype": "BOOL"}]}) == {"on": False}
    with pytest.raises(errors.InvalidError, match="no inputs"):
        predictions.placeholder({})
