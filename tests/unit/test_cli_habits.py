"""Runs that a command means without naming them, runs that a command starts, and logs of what failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, Request
from tests.unit.test_cli import variables

FAILED_STEP = {**canned_api.RUN["steps"][0], "state": "failed", "cause": "ValueError: too hard"}  # type: ignore[index]  # a list
FAILED = {**canned_api.RUN, "name": "mlflow-e2e-3", "state": "failed", "steps": [FAILED_STEP, canned_api.RUN["steps"][1]]}  # type: ignore[index]  # a list
LOG = "".join(f"epoch {number}\n" for number in range(1, 31)) + "10 %\r100 %\nValueError: too hard\x1b]52;c;eA==\x07\n"


def listed(request: Request) -> Answer:
    """The failed run is the newest one; project `empty` has none."""
    if "caused_by" in request.query or request.query.get("project") == ["empty"]:
        return Answer([])
    runs = [FAILED, canned_api.RUN]
    runs = [run for run in runs if request.query.get("state", [run["state"]]) == [run["state"]]]
    return Answer(runs[: int(request.query.get("limit", ["100"])[0])])


ROUTES: dict[tuple[str, str], canned_api.Route] = {
    **canned_api.CONTRACT,
    ("GET", "/runs"): listed,
    ("GET", "/runs/mlflow-e2e-3"): Answer(FAILED),
    ("GET", "/runs/mlflow-e2e-3/logs/trainer"): Answer(
        LOG.encode(), headers={"Fuseml-Log-Offset": str(len(LOG)), "Fuseml-Log-Complete": "true"}
    ),
    ("GET", "/why"): lambda request: Answer({"of": request.query["of"][0], "kind": "run", "answer": request.query["of"][0], "stories": []}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve(ROUTES) as running:
        yield running


@pytest.fixture(autouse=True)
def forgotten(server: CannedApi) -> None:
    server.requests.clear()


def fuseml(server: CannedApi, home: Path, line: str, **more: str) -> int:
    return main.run(line.split(), {**variables(home, server.url), **more})


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("run get", "mlflow-e2e-3"),
        ("run get --last 2", "mlflow-e2e-1"),
        ("run get mlflow-e2e-1", "mlflow-e2e-1"),
        ("run logs --last 2", "mlflow-e2e-1"),
        ("run watch --last 2", "mlflow-e2e-1"),
        ("run why", "mlflow-e2e-3"),
        ("why", "mlflow-e2e-3"),
    ],
)
def test_the_newest_run_is_meant_where_none_is_named(
    line: str, run: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, line) == 0
    printed = capsys.readouterr()
    assert run in printed.out + printed.err
    assert [request for request in server.requests if run in request.path or request.query.get("of") == [run]]


def test_the_newest_run_is_that_of_the_current_project(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run get", FUSEML_PROJECT="demo") == 0
    assert server.requests[0].query["project"] == ["demo"]
    assert fuseml(server, tmp_path, "run logs", FUSEML_PROJECT="empty") == 1
    assert fuseml(server, tmp_path, "run get --last 9") == 1
    assert fuseml(server, tmp_path, "run get mlflow-e2e-1 --last 2") == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no run in project empty; `fuseml run list` shows the runs",
        "error: there are only 2 runs; `fuseml run list` shows the runs",
        "error: --last 2 counts from the newest run, and mlflow-e2e-1 is named; give one of both",
    ]


@pytest.mark.parametrize("line", ["run logs --failed", "run logs mlflow-e2e-3 --failed", "run logs --step trainer"])
def test_logs_may_be_those_of_failed_steps_only(line: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, line) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("epoch 1\nepoch 2\n")
    assert "predictor" not in printed.err
    assert [request.path for request in server.requests if "/logs/" in request.path] == ["/runs/mlflow-e2e-3/logs/trainer"]


def test_a_run_without_failed_steps_has_no_failed_logs(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run logs mlflow-e2e-1 --failed") == 1
    assert capsys.readouterr().err == "error: no step with a log of run mlflow-e2e-1 has failed; the run is succeeded\n"


def test_a_failed_run_shows_the_end_of_the_log_of_its_failed_step(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, "run watch") == 1
    shown = capsys.readouterr().out
    _, _, end = shown.partition("Step trainer of run mlflow-e2e-3 failed; last 20 lines of its log:\n")
    # The last state of a progress bar counts, and nothing that a terminal obeys is printed.
    assert end.splitlines() == [
        *(f"  epoch {number}" for number in range(13, 31)),
        "  100 %",
        "  ValueError: too hard\u241b]52;c;eA==\u2407",
        "The whole log: fuseml run logs mlflow-e2e-3 trainer",
    ]


def of_rmse(name: str, rmse: str, seconds: int) -> dict[str, object]:
    step = {**canned_api.RUN["steps"][0], "outputs": {"metrics": rmse}}  # type: ignore[index]  # a list
    return {**canned_api.RUN, "name": name, "steps": [step], "finished": f"2026-01-01T10:00:{seconds:02}Z"}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("", ["a-3", "b-2", "c-1"]),
        ("--metric rmse", ["a-3", "b-2", "c-1"]),
        ("--sort rmse", ["c-1", "a-3", "b-2"]),
        ("--sort trainer.rmse --reverse", ["a-3", "c-1", "b-2"]),
        ("--sort duration", ["b-2", "a-3", "c-1"]),
        ("--sort name --reverse", ["c-1", "b-2", "a-3"]),
    ],
)
def test_runs_are_listed_with_metrics_and_in_the_order_of_one(
    line: str, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A run without the metric is the last one in both directions.
    runs = [of_rmse("a-3", '{"rmse": 53.1}', 20), of_rmse("b-2", "not JSON", 10), of_rmse("c-1", '{"rmse": "7.25"}', 30)]
    with canned_api.serve({("GET", "/runs"): Answer(runs)}) as server:
        assert fuseml(server, tmp_path, f"run list {line}") == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert [row.split()[0] for row in rows] == names
        assert ("RMSE" in header, "53.1" in rows[0]) == ("--metric" in line, "--metric" in line)


def test_a_metric_that_no_run_has_is_refused_with_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("GET", "/runs"): Answer([of_rmse("a-3", '{"rmse": 53.1}', 20)])}) as server:
        assert fuseml(server, tmp_path, "run list --metric rsme") == 1
        assert fuseml(server, tmp_path, "run list --sort x") == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: no listed run has a metric 'rsme'; did you mean 'rmse'?",
        "error: no listed run has a value 'x' to sort by; there are: name, workflow, state, started, duration, trainer.rmse, rmse",
    ]


def test_an_assignment_prints_the_run_that_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assigned: list[Request] = []

    def assign(request: Request) -> Answer:
        assigned.append(request)
        return Answer(status=201)

    changed: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/workflows/assignments"): Answer([]),
        ("POST", "/workflows/assignments"): assign,
        ("GET", "/runs"): lambda _: Answer([FAILED if assigned else canned_api.RUN]),
    }
    with canned_api.serve({**ROUTES, **changed}) as server:
        assert fuseml(server, tmp_path, "workflow assign mlflow-e2e -p demo -c diabetes") == 0
    assert capsys.readouterr().out == (
        'Workflow "mlflow-e2e" assigned to codeset "demo/diabetes".\nRun mlflow-e2e-3 of mlflow-e2e is failed.\n'
    )


def test_an_assignment_that_starts_no_run_does_not_wait_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheduled = {**canned_api.WORKFLOW, "on": {"schedule": "0 3 * * *"}}
    changed: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/workflows/assignments"): Answer([]),
        ("GET", "/workflows/mlflow-e2e"): Answer(scheduled),
    }
    with canned_api.serve({**ROUTES, **changed}) as server:
        assert fuseml(server, tmp_path, "workflow assign mlflow-e2e -p demo -c diabetes") == 0
        assert [request.path for request in server.requests].count("/runs") == 1
    assert capsys.readouterr().out == 'Workflow "mlflow-e2e" assigned to codeset "demo/diabetes".\n'
