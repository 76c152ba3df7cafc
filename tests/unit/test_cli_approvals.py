"""Runs that wait for approvals: output and decisions of the command, against a real HTTP server with canned responses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import variables

QUESTION: dict[str, object] = {
    "message": "serve the\nnew model?",
    "asked": "2026-01-01T10:00:10Z",
    "deadline": "2026-01-02T10:00:10Z",
    "decision": None,
    "by": None,
    "decided": None,
    "comment": "",
}
APPROVED = {**QUESTION, "decision": "approved", "by": "ada", "decided": "2026-01-01T10:30:00Z", "comment": "better"}
EXPIRED = {**QUESTION, "decision": "expired", "decided": "2026-01-02T10:00:12Z"}
STEPS: list[dict[str, object]] = [
    {"name": "trainer", "state": "succeeded"},
    {"name": "predictor", "state": "waiting", "approval": QUESTION},
]
WAITING: dict[str, object] = {
    **canned_api.RUN,
    "name": "mlflow-e2e-2",
    "state": "waiting",
    "started": "2026-01-01T10:00:00Z",
    "finished": None,
    "cause": None,
    "outputs": {},
    "bindings": [],
    "steps": STEPS,
}
APPROVED_RUN = {**WAITING, "state": "running", "steps": [STEPS[0], {**STEPS[1], "approval": APPROVED}]}
SUCCEEDED = {
    **WAITING,
    "state": "succeeded",
    "finished": "2026-01-01T10:31:00Z",
    "steps": [STEPS[0], {"name": "predictor", "state": "succeeded", "approval": APPROVED}],
}
ADVICE = "mlflow-e2e-2 waits for an approval of predictor: fuseml run approve mlflow-e2e-2, or reject\n"


def serving(*snapshots: Mapping[str, object]) -> dict[tuple[str, str], canned_api.Route]:
    """Routes that answer successive requests with successive snapshots of the run."""
    left = list(snapshots)
    return {
        **canned_api.CONTRACT,
        ("GET", "/runs/mlflow-e2e-2"): lambda _: Answer(left.pop(0) if len(left) > 1 else left[0]),
        ("GET", "/runs"): Answer([snapshots[0]]),
        ("POST", "/runs/mlflow-e2e-1/rerun"): Answer({"request": "r-1"}, 202),
        ("POST", "/runs/mlflow-e2e-2/approve"): Answer(APPROVED_RUN, 202),
        ("POST", "/runs/mlflow-e2e-2/reject"): Answer(WAITING, 202),
    }


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


@pytest.mark.parametrize(
    ("line", "path", "body", "output"),
    [
        ("run approve mlflow-e2e-2", "approve", {}, "Run mlflow-e2e-2 is approved and continues.\n"),
        (
            "run approve mlflow-e2e-2 --step predictor -m better",
            "approve",
            {"step": "predictor", "comment": "better"},
            "Run mlflow-e2e-2 is ",
        ),
        ("run reject mlflow-e2e-2 --comment worse", "reject", {"comment": "worse"}, "Run mlflow-e2e-2 is rejected and fails.\n"),
    ],
)
def test_a_decision_is_sent_with_its_comment(
    line: str, path: str, body: object, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve(serving(WAITING)) as server:
        assert fuseml(server, tmp_path, line) == 0
    [sent] = server.requests
    assert (sent.path, json.loads(sent.body)) == (f"/runs/mlflow-e2e-2/{path}", body)
    assert capsys.readouterr().out.startswith(output)


def test_a_waiting_run_is_shown_with_its_question_and_the_commands_that_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert lines[-6:] == [
            "Steps:",
            "  NAME       STATE      APPROVAL",
            "  trainer    succeeded",
            "  predictor  waiting    serve the new model? (until 2026-01-02 10:00 UTC)",
            "",
            ADVICE.strip(),
        ]
        assert "Cause:    predictor: serve the new model? (until 2026-01-02 10:00 UTC)" in lines
        assert fuseml(server, tmp_path, "run list") == 0
        assert "waiting  predictor: serve the new model? (until 2026-01-02 10:00 UTC)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("approval", "summary"),
    [
        (APPROVED, "approved by ada at 2026-01-01 10:30 UTC: better"),
        ({**APPROVED, "comment": ""}, "approved by ada at 2026-01-01 10:30 UTC"),
        (EXPIRED, "expired at 2026-01-02 10:00 UTC"),
    ],
)
def test_a_run_shows_approver_time_and_comment(approval: object, summary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = {**SUCCEEDED, "steps": [{"name": "predictor", "state": "succeeded", "approval": approval}]}
    with canned_api.serve(serving(run)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
    assert capsys.readouterr().out.splitlines()[-1].rstrip() == f"  predictor  succeeded  {summary}"


def test_watch_shows_the_pending_approval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING, WAITING, APPROVED_RUN, SUCCEEDED)) as server:
        assert fuseml(server, tmp_path, "run watch mlflow-e2e-2") == 0
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "mlflow-e2e-2  waiting  predictor: serve the new model? (until 2026-01-02 10:00 UTC)",
        "mlflow-e2e-2 trainer  succeeded",
        "mlflow-e2e-2 predictor  waiting  serve the new model? (until 2026-01-02 10:00 UTC)",
        "mlflow-e2e-2  waits for an approval of predictor: fuseml run approve mlflow-e2e-2, or reject",
        "mlflow-e2e-2  running",
        "mlflow-e2e-2 predictor  waiting  approved by ada at 2026-01-01 10:30 UTC: better",
        "mlflow-e2e-2 predictor  succeeded",
        "mlflow-e2e-2  succeeded  31m00s",
    ]


def test_a_script_sees_the_pending_approval_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING, WAITING, SUCCEEDED)) as server:
        assert fuseml(server, tmp_path, "run rerun mlflow-e2e-1 --wait -o json") == 0
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == (SUCCEEDED, ADVICE)


def test_the_advice_names_the_step_when_several_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {**WAITING, "steps": [{**STEPS[1], "name": name, "approval": {**QUESTION, "message": "", "deadline": None}} for name in "ab"]}
    with canned_api.serve(serving(both)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
    shown = capsys.readouterr().out
    assert "a: an approval is needed; b: an approval is needed" in shown
    for name in "ab":
        assert f"mlflow-e2e-2 waits for an approval of {name}: fuseml run approve mlflow-e2e-2 --step {name}, or reject\n" in shown
