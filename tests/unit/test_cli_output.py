"""Output for people: ages, durations, tables, progress of runs, explanations."""

from __future__ import annotations

import datetime
import io
import re
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fuseml.cli import advice, explanation, output, progress
from fuseml.client import shapes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.44, "0.4s"), (12.3, "12s"), (59.6, "1m00s"), (64, "1m04s"), (3599, "59m59s"), (7500, "2h05m"), (None, "")],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e7))
def test_every_duration_is_at_most_8_characters_long(seconds: float) -> None:
    assert re.fullmatch(r"\d+\.\ds|\d+s|\d+m\d\ds|\d+h\d\dm", output.duration(seconds))
    assert len(output.duration(seconds)) <= 8


@pytest.mark.parametrize(("back", "text"), [(5, "5s"), (185, "3m"), (5 * 3600 + 1, "5h"), (2 * 86400 + 1, "2d")])
def test_an_age_has_one_unit(back: int, text: str) -> None:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=back)
    assert output.age(moment.isoformat().replace("+00:00", "Z")) == text


@pytest.mark.parametrize("value", [None, "", "0001-01-01T00:00:00Z", "yesterday", 5])
def test_a_malformed_time_has_no_age(value: object) -> None:
    assert output.age(value) == ""


def test_a_time_without_a_zone_is_utc() -> None:
    assert output.moment("2026-01-01T10:00:00") == datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.UTC)


def test_values_are_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([{"name": "[red]a[/red] :smile:"}], [output.column("Name")])
    assert "[red]a[/red] :smile:" in capsys.readouterr().out


def test_in_a_pipe_a_row_is_one_complete_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([{"name": "a", "description": "word " * 100}], [output.column("Name"), output.column("Description", cut=True)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].count("word") == 100


def test_empty_columns_are_omitted(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([{"name": "a", "zone": ""}], [output.column("Name"), output.column("Zone")])
    assert "ZONE" not in capsys.readouterr().out


def test_entries_of_a_mapping_stand_below_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    output.record(
        output.Format.TABLE,
        {"name": "r-1", "inputs": {"code": "code://p/c", "alpha": 0.5}},
        [output.column("Name"), output.column("Inputs")],
    )
    assert capsys.readouterr().out == "Name:   r-1\nInputs: code: code://p/c\n        alpha: 0.5\n"


def test_free_text_in_a_narrow_table_ends_with_a_whole_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=30, highlight=False))
    output.table([{"name": "run-1", "cause": "unbelievable circumstances"}], [output.column("Name"), output.column("Cause", cut=True)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["run-1", "unbelievable…"]


def test_a_failed_step_leads_to_its_log() -> None:
    run = _run("failed", builder="succeeded", trainer="failed", gate="failed")
    run["steps"][1]["started"] = "2026-01-01T10:00:00Z"
    assert list(advice.lines(run)) == ["failed in trainer: fuseml run logs w-1 trainer shows more"]


def _run(state: str, **steps: str) -> shapes.Run:
    """A run with only the fields that the output reads; hence the cast."""
    ended = {"finished": "2026-01-01T10:00:10Z"} if state in ("succeeded", "failed") else {}
    listed = [{"name": name, "state": value} for name, value in steps.items()]
    return cast(shapes.Run, {"name": "w-1", "state": state, "started": "2026-01-01T10:00:00Z", "steps": listed, **ended})


def test_without_a_terminal_a_watched_run_is_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    failed = _run("failed", builder="succeeded", trainer="failed")
    failed["cause"] = "step trainer: exit code 1"
    snapshots = [
        _run("queued", builder="queued", trainer="queued"),
        _run("running", builder="running", trainer="queued"),
        _run("running", builder="running", trainer="queued"),
        _run("running", builder="succeeded", trainer="running"),
        failed,
    ]
    assert progress.show([snapshot] for snapshot in snapshots) == [failed]
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "w-1  running",
        "w-1 builder  running",
        "w-1 builder  succeeded",
        "w-1 trainer  running",
        "w-1 trainer  failed",
        "w-1  failed  10s  step trainer: exit code 1",
    ]


def test_the_reason_for_reuse_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    snapshots = [_run("running", builder="succeeded", trainer="queued"), _run("running", builder="succeeded", trainer="running")]
    snapshots.append(_run("succeeded", builder="succeeded", trainer="succeeded"))
    for snapshot in snapshots:
        snapshot["steps"][0]["reused_from"] = "w-0"
        snapshot["steps"][1]["not_reused"] = "changed since w-0: image"
    progress.show([snapshot] for snapshot in snapshots)
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
        "w-1  running",
        "w-1 builder  succeeded  reused from w-0",
        "w-1 trainer  running  not reused: changed since w-0: image",
        "w-1 trainer  succeeded",
        "w-1  succeeded  10s",
    ]
    console = output.console()
    with console.capture() as captured:
        console.print(*progress.trees([snapshots[-1]]))
    assert [line.split("  ", 1)[1].strip() for line in captured.get().splitlines()[1:]] == [
        "succeeded          reused from w-0",
        "succeeded          not reused: changed since w-0: image",
    ]


def test_runs_are_below_their_cause_and_fit_a_narrow_terminal() -> None:
    long = "a-step-with-a-rather-long-name"
    first = {**_run("succeeded", train="succeeded"), "project": "p", "codeset": "code", "commit": "c" * 40}
    second = {**_run("running", **{long: "running"}), "name": "serve-1", "caused_by": "w-1", "trigger": {"artifact": "model://p/m/1"}}
    third = {**_run("failed"), "name": "check-1", "caused_by": "serve-1", "cause": "a long message\n" * 20}
    other = {**_run("queued"), "name": "lint-1", "caused_by": "unknown-1", "waits_for": "lint-0", "concurrency_group": "p/g"}
    narrow = Console(width=80, file=io.StringIO(), force_terminal=False, highlight=False)
    for tree in progress.trees([first, second, third, other], 80):  # type: ignore[list-item]
        narrow.print(tree)
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]

    shape = [line[: line.index(name)] for line, name in zip(lines, ("w-1", "train", "serve-1", long, "check-1", "lint-1"), strict=True)]
    assert shape == ["", "├── ", "└── ", "    ├── ", "    └── ", ""]
    states = ("succeeded", "succeeded", "running", "running", "failed", "queued")
    assert len({line.index(state) for line, state in zip(lines, states, strict=True)}) == 1, "states are aligned"
    assert all(len(line) <= 80 for line in lines)
    assert "  m/1" in lines[2]
    assert "waits for lint-0" in lines[5]
    assert re.search(r"\b(a|long|message)…$", lines[4]), "a cause ends with a whole word"


@pytest.mark.parametrize("nothing", [None, [], {}, ["text"], [{"candidates": "text"}]])
def test_a_malformed_explanation_has_no_candidates(nothing: object) -> None:
    assert not [candidate for candidate in explanation.candidates(nothing) if candidate.get("verdict")]


def test_explanations_are_read_grouped_and_flat() -> None:
    candidate = {"extension_id": "mlflow", "service_id": "tracking", "verdict": "rejected", "sentence": "zone is east"}
    assert list(explanation.candidates([{"name": "s", "candidates": [candidate]}])) == list(explanation.candidates([candidate]))
    assert explanation.sentence(candidate) == "mlflow/tracking: zone is east"
