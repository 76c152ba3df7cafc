"""`fuseml pipeline results show` against a real HTTP server with canned responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, refused
from tests.unit.test_cli import one_line, variables

COMMIT = "f3b0924" + "0" * 33
COMMON: dict[str, Any] = {"state": "succeeded", "cause": None, "caused_by": None, "created": "", "finished": "", "bindings": []}
MODEL = "model://myproj/diabetes/1"
TRAIN = {
    **COMMON,
    "run": "training-pipeline-1",
    "workflow": "training-pipeline",
    "number": 1,
    "inputs": [
        {"name": "mlflow_code", "value": f"code://myproj/myapp/{COMMIT}", "address": f"code://myproj/myapp/{COMMIT}", "default": False}
    ],
    "outputs": [{"name": "model", "value": "models:/diabetes/1", "address": MODEL}],
}
SERVE = {
    **COMMON,
    "run": "serving-pipeline-1",
    "workflow": "serving-pipeline",
    "number": 1,
    "caused_by": "training-pipeline-1",
    "inputs": [
        {"name": "model", "value": "models:/diabetes/1", "address": MODEL, "default": False},
        {"name": "predictor", "value": "sklearn", "address": None, "default": True},
    ],
    "outputs": [{"name": "url", "value": "http://myapp.myproj.10.20.30.40.nip.io/predict", "address": None}],
}
TABLE = """\
PIPELINE/RUN         INPUTS                                    OUTPUTS
training-pipeline/1  mlflow_code: code://myproj/myapp/f3b0924  model: model://myproj/diabetes/1
serving-pipeline/1   model: model://myproj/diabetes/1          url: http://myapp.myproj.10.20.30.40.nip.io/predict
                     predictor: sklearn (default)
"""
Show = Callable[..., int]


@pytest.fixture
def server() -> Iterator[CannedApi]:
    with canned_api.serve({("GET", "/pipelines/results"): lambda _: Answer([TRAIN, SERVE])}) as running:
        yield running


@pytest.fixture
def show(server: CannedApi, tmp_path: Path) -> Show:
    return lambda *arguments: main.run(["pipeline", "results", "show", *arguments], variables(tmp_path, server.url))


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())


def test_the_table_names_runs_inputs_and_outputs(show: Show, server: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert show("--current-code", "--recursive", "-p", "myproj") == 0
    assert shown(capsys) == TABLE
    assert server.requests[0].query == {"project": ["myproj"], "recursive": ["true"]}


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_on_a_narrow_terminal_values_wrap_and_nothing_is_lost(
    show: Show, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert show("-p", "myproj") == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    assert "…" not in text
    assert text.count("(default)") == 1


def test_states_and_causes_appear_where_a_run_has_not_succeeded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {**SERVE, "state": "failed", "cause": "step 'predictor' failed:\nno such model", "outputs": []}
    with canned_api.serve({("GET", "/pipelines/results"): Answer([{**TRAIN, "state": "running"}, failed])}) as server:
        assert main.run(["pipeline", "results", "show", "-p", "myproj"], variables(tmp_path, server.url)) == 0
    first, training, serving, *_, last = shown(capsys).splitlines()
    assert first.split() == ["PIPELINE/RUN", "STATE", "INPUTS", "OUTPUTS"]
    assert training.split()[:2] == ["training-pipeline/1", "running"]
    assert serving.split()[1] == "failed"
    assert last == "serving-pipeline/1 failed: step 'predictor' failed: no such model"


def test_bound_services_are_inputs_once_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bindings = [{"step": step, "name": "tracking", "extension_id": "mlflow"} for step in ("fit", "check")]
    with canned_api.serve({("GET", "/pipelines/results"): Answer([{**TRAIN, "bindings": bindings}])}) as server:
        assert main.run(["pipeline", "results", "show", "-p", "myproj"], variables(tmp_path, server.url)) == 0
    assert shown(capsys).splitlines()[2:] == ["                     tracking: mlflow (bound)"]


def test_long_and_hostile_values_are_cut_and_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = {**TRAIN, "inputs": [{"name": "a", "value": "\x1b]52;c;x\x07" + "y" * 9000, "address": None, "default": False}]}
    with canned_api.serve({("GET", "/pipelines/results"): Answer([hostile])}) as server:
        assert main.run(["pipeline", "results", "show", "-p", "myproj"], variables(tmp_path, server.url)) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert len(printed) < 1000


def test_json_is_the_answer_of_the_server(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    assert show("-p", "myproj", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == [TRAIN, SERVE]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "project set NAME"),
        (["--code", "code://a/b/1234567", "--current-code"], "exclude each other"),
    ],
)
def test_wrong_combinations_are_one_line(show: Show, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(*arguments) == 1
    assert words in one_line(capsys)


def test_no_results_and_refusals_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pipeline", "results", "show", "-p", "myproj", "-c", "myapp"]
    with canned_api.serve({("GET", "/pipelines/results"): Answer([])}) as server:
        assert main.run(arguments, variables(tmp_path, server.url)) == 0
    assert "No run took the current code of myproj/myapp; `fuseml why COMMIT`" in capsys.readouterr().err
    with canned_api.serve({("GET", "/pipelines/results"): refused(404, "not_found", "there is no codeset myproj/myapp")}) as server:
        assert main.run(arguments, variables(tmp_path, server.url)) == 1
    assert "no codeset" in one_line(capsys)
