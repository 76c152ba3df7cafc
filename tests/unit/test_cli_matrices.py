"""Output of combinations: in `run get`, `run watch`, `run logs` and `run plan`."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fuseml.cli import main, matrices, output
from tests.component import canned_api
from tests.component.canned_api import Answer
from tests.unit.test_cli import variables

TRAINED = canned_api.RUN["steps"][0]  # type: ignore[index]


def combination(number: int, alpha: str, *, best: bool = False, **metrics: float) -> dict[str, Any]:
    values = {"alpha": alpha, "solver": "auto"}
    described = {"step": "trainer", "values": values, "metric": "rmse", "goal": "min", "metrics": metrics, "best": best}
    return {**TRAINED, "name": f"trainer-{number}", "attempts": 1, "combination": described}


RUN: dict[str, Any] = {
    **canned_api.RUN,
    "steps": [
        combination(1, "0.1", rmse=54.75, r2=0.48),
        combination(2, "1", best=True, rmse=53.123456789, r2=0.5),
        combination(3, "10"),
        {**TRAINED, "name": "trainer", "attempts": 1, "combination": None},
    ],
}


def fuseml(line: str, home: Path, run: Mapping[str, object] = RUN, logs: Mapping[str, canned_api.Route] | None = None) -> int:
    routes = {
        **canned_api.CONTRACT,
        ("GET", "/runs/mlflow-e2e-1"): Answer(run),
        ("GET", "/runs"): canned_api.causing_no_run(lambda _: Answer([run])),
        **{("GET", f"/runs/mlflow-e2e-1/logs/{name}"): route for name, route in (logs or {}).items()},
    }
    with canned_api.serve(routes) as server:
        return main.run(line.split(), variables(home, server.url))


def rows_of(text: str, title: str) -> list[list[str]]:
    lines = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
    return [line.split() for line in lines.splitlines()]


def test_a_run_shows_values_and_metrics_of_all_combinations_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("run get mlflow-e2e-1", tmp_path) == 0
    shown = capsys.readouterr().out
    assert rows_of(shown, "Results of trainer") == [
        ["COMBINATION", "ALPHA", "SOLVER", "RMSE", "R2", "BEST"],
        ["trainer-1", "0.1", "auto", "54.75", "0.48"],
        ["trainer-2", "1", "auto", "53.1235", "0.5", "yes"],
        ["trainer-3", "10", "auto"],
    ]
    assert ["trainer-2", "alpha=1", "solver=auto", "succeeded"] in [row[:4] for row in rows_of(shown, "Steps")]
    assert fuseml("run get mlflow-e2e-1 -o json", tmp_path) == 0
    assert json.loads(capsys.readouterr().out) == RUN


def test_a_run_without_a_matrix_has_no_table_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("run get mlflow-e2e-1", tmp_path, canned_api.RUN) == 0
    shown = capsys.readouterr().out
    assert "Results" not in shown
    assert "VALUES" not in shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(70, 160), metrics=st.lists(st.text("abcdefgh", min_size=1, max_size=12), max_size=14, unique=True))
def test_the_table_of_results_fits_the_terminal(
    width: int, metrics: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy.deepcopy(RUN)
    for step in run["steps"][:2]:
        step["combination"]["metrics"] = {"rmse": 54.75, **dict.fromkeys(metrics, 1234.5678)}
    monkeypatch.setattr(output, "console", lambda: Console(width=width, highlight=False))
    capsys.readouterr()
    matrices.show_results(run)
    _, title, header, *lines = capsys.readouterr().out.splitlines()
    assert title == "Results of trainer:"
    assert all(len(line.rstrip()) <= width for line in (header, *lines))
    shown = header.split()
    assert shown[:4] == ["COMBINATION", "ALPHA", "SOLVER", "RMSE"]
    assert shown[-1] == "BEST"
    omitted = len({"rmse", *metrics}) - (len(shown) - 4)
    note = f"  {omitted} more metric{'s' if omitted > 1 else ''}: fuseml run get mlflow-e2e-1 -o json"
    assert lines[3:] == ([note] if omitted else [])


def test_following_a_run_names_the_values_of_a_combination_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("run watch mlflow-e2e-1", tmp_path) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "trainer-1" in line]
    assert [line.rpartition("  ")[2] for line in lines] == ["alpha=0.1 solver=auto"]


def test_values_of_several_lines_are_shown_in_one() -> None:
    assert matrices.values(combination(1, "a\nb")) == "alpha=a b solver=auto"


def test_the_logs_of_a_step_are_those_of_its_combinations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headers = {"Fuseml-Log-Offset": "2", "Fuseml-Log-Complete": "true"}
    logs = {
        name: Answer(f"{name}\n".encode(), headers={**headers, "Content-Type": "text/plain"})
        for name in ("trainer-1", "trainer-2", "trainer-3", "trainer")
    }
    assert fuseml("run logs mlflow-e2e-1 trainer", tmp_path, logs=logs) == 0
    shown = capsys.readouterr()
    assert shown.out == "trainer-1\ntrainer-2\ntrainer-3\ntrainer\n"
    assert shown.err.splitlines() == [f"==> {name} <==" for name in ("trainer-1", "trainer-2", "trainer-3", "trainer")]
    assert fuseml("run logs mlflow-e2e-1 trainer-2", tmp_path, logs=logs) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("trainer-2\n", "")


def planned(number: int, alpha: str) -> dict[str, Any]:
    def variable(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "value": [{"kind": "text", "text": text}]}

    return {
        "name": f"trainer-{number}",
        "image": [{"kind": "text", "text": "trainer:1"}],
        "checkouts": [],
        "variables": [variable("FUSEML_ALPHA", alpha), variable("FUSEML_DATA", "s3://data")],
        "combination": {"step": "trainer", "values": {"alpha": alpha}, "best": None},
    }


def test_a_plan_shows_what_combinations_share_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = {"name": "store", "extension_id": "minio", "service_id": "s3", "url": "http://s3"}
    plan = {
        "workflow": "train",
        "revision": 1,
        "project": "demo",
        "steps": [planned(1, "0.1"), planned(2, "1")],
        "bindings": [{"step": f"trainer-{number}", "binding": store} for number in (1, 2)],
    }
    with canned_api.serve({**canned_api.CONTRACT, ("POST", "/workflows/train/plan"): Answer(plan)}) as server:
        assert main.run(["run", "plan", "train"], variables(tmp_path, server.url)) == 0
    shown = capsys.readouterr().out
    assert rows_of(shown, "Steps") == [
        ["NAME", "VALUES", "IMAGE"],
        ["trainer-1", "alpha=0.1", "trainer:1"],
        ["trainer-2", "alpha=1", "trainer:1"],
    ]
    assert rows_of(shown, "Environment") == [
        ["STEP", "VARIABLE", "VALUE"],
        ["trainer-1", "FUSEML_ALPHA", "0.1"],
        ["trainer", "FUSEML_DATA", "s3://data"],
        ["trainer-2", "FUSEML_ALPHA", "1"],
    ]
    assert rows_of(shown, "Bindings")[1:] == [["trainer", "store", "minio/s3", "http://s3"]]


def test_a_plan_shows_the_variables_of_all_steps_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def step(name: str) -> dict[str, Any]:
        variables = {"FUSEML_ENV_RUN": "train-1", "FUSEML_ENV_STEP": name}
        values = [{"name": key, "value": [{"kind": "text", "text": text}]} for key, text in variables.items()]
        return {"name": name, "image": [{"kind": "text", "text": "i"}], "checkouts": [], "variables": values}

    plan = {"workflow": "train", "revision": 1, "project": "demo", "steps": [step("builder"), step("trainer")], "bindings": []}
    with canned_api.serve({**canned_api.CONTRACT, ("POST", "/workflows/train/plan"): Answer(plan)}) as server:
        assert main.run(["run", "plan", "train"], variables(tmp_path, server.url)) == 0
    assert rows_of(capsys.readouterr().out, "Environment")[1:] == [
        ["(all)", "FUSEML_ENV_RUN", "train-1"],
        ["builder", "FUSEML_ENV_STEP", "builder"],
        ["trainer", "FUSEML_ENV_STEP", "trainer"],
    ]
