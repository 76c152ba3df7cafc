"""What the command says of runs that wait for people, and how it answers for them, against a real HTTP server with the contract's answers."""

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

QUESTION = {
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
STEPS = [{"name": "trainer", "state": "succeeded"}, {"name": "predictor", "state": "waiting", "approval": QUESTION}]
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
GOES_ON = {**WAITING, "state": "running", "steps": [STEPS[0], {**STEPS[1], "approval": APPROVED}]}
DONE = {
    **WAITING,
    "state": "succeeded",
    "finished": "2026-01-01T10:31:00Z",
    "steps": [STEPS[0], {"name": "predictor", "state": "succeeded", "approval": APPROVED}],
}
ADVICE = "mlflow-e2e-2 waits for an approval of predictor: fuseml run approve mlflow-e2e-2, or reject\n"


def serving(*looks: Mapping[str, object]) -> dict[tuple[str, str], canned_api.Route]:
    """A server that shows the run as `looks`, one after the other."""
    left = list(looks)
    return {
        **canned_api.CONTRACT,
        ("GET", "/runs/mlflow-e2e-2"): lambda _: Answer(left.pop(0) if len(left) > 1 else left[0]),
        ("GET", "/runs"): Answer([looks[0]]),
        ("POST", "/runs/mlflow-e2e-1/rerun"): Answer({"request": "r-1"}, 202),
        ("POST", "/runs/mlflow-e2e-2/approve"): Answer(GOES_ON, 202),
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
    ("line", "path", "body", "told"),
    [
        ("run approve mlflow-e2e-2", "approve", {}, "Run mlflow-e2e-2 is approved and goes on.\n"),
        (
            "run approve mlflow-e2e-2 --step predictor -m better",
            "approve",
            {"step": "predictor", "comment": "better"},
            "Run mlflow-e2e-2 is ",
        ),
        ("run reject mlflow-e2e-2 --comment worse", "reject", {"comment": "worse"}, "Run mlflow-e2e-2 is rejected and fails.\n"),
    ],
)
def test_an_answer_is_sent_with_its_reason(
    line: str, path: str, body: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve(serving(WAITING)) as server:
        assert fuseml(server, tmp_path, line) == 0
    [sent] = server.requests
    assert (sent.path, json.loads(sent.body)) == (f"/runs/mlflow-e2e-2/{path}", body)
    assert capsys.readouterr().out.startswith(told)


def test_a_waiting_run_is_shown_with_what_it_asks_and_how_to_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
        shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert shown[-6:] == [
            "Steps:",
            "  NAME       STATE      APPROVAL",
            "  trainer    succeeded",
            "  predictor  waiting    serve the new model? (until 2026-01-02 10:00 UTC)",
            "",
            ADVICE.strip(),
        ]
        assert "Cause:    predictor: serve the new model? (until 2026-01-02 10:00 UTC)" in shown
        assert fuseml(server, tmp_path, "run list") == 0
        assert "waiting  predictor: serve the new model? (until 2026-01-02 10:00 UTC)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("approval", "told"),
    [
        (APPROVED, "approved by ada at 2026-01-01 10:30 UTC: better"),
        ({**APPROVED, "comment": ""}, "approved by ada at 2026-01-01 10:30 UTC"),
        (EXPIRED, "expired at 2026-01-02 10:00 UTC"),
    ],
)
def test_who_answered_when_and_why_stays_with_the_run(
    approval: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {**DONE, "steps": [{"name": "predictor", "state": "succeeded", "approval": approval}]}
    with canned_api.serve(serving(done)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
    assert capsys.readouterr().out.splitlines()[-1].rstrip() == f"  predictor  succeeded  {told}"


def test_who_follows_a_run_is_told_what_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING, WAITING, GOES_ON, DONE)) as server:
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


def test_a_script_that_waits_is_told_on_its_error_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(WAITING, WAITING, DONE)) as server:
        assert fuseml(server, tmp_path, "run rerun mlflow-e2e-1 --wait -o json") == 0
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == (DONE, ADVICE)


def test_the_step_is_named_where_several_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {**WAITING, "steps": [{**STEPS[1], "name": name, "approval": {**QUESTION, "message": "", "deadline": None}} for name in "ab"]}
    with canned_api.serve(serving(both)) as server:
        assert fuseml(server, tmp_path, "run get mlflow-e2e-2") == 0
    shown = capsys.readouterr().out
    assert "a: an approval is needed; b: an approval is needed" in shown
    for name in "ab":
        assert f"mlflow-e2e-2 waits for an approval of {name}: fuseml run approve mlflow-e2e-2 --step {name}, or reject\n" in shown
