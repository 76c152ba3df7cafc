"""Roll back and traffic wait until the model answers, and applications show what answers: against a real HTTP server with canned responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fuseml.cli import main
from fuseml.client import api
from fuseml.domain import errors
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, refused
from tests.unit.test_cli import variables

NAME = "demo-diabetes"


def share(revision: int, percent: int = 100) -> dict[str, object]:
    return {"revision": revision, "percent": percent, "model": f"models:/diabetes/{revision}"}


def snapshot(status: str | None, answering: list[dict[str, object]] | None, cause: str | None = None) -> dict[str, object]:
    """The application after a roll back to its first revision."""
    return {**canned_api.APPLICATION, "traffic": [share(1)], "answering": answering, "status": status, "cause": cause}


READY = snapshot("ready", [share(1)])
STARTING = snapshot("starting", [share(2)], "revision 2 answers until revision 1 has started")
FAILED = snapshot("failed", [share(2)], "its model server did not start: no\nmodule named torch")
UNKNOWN = snapshot("starting", None, "its status is not known")
RECEIVES = f"Application {NAME}: revision 1 (models:/diabetes/1) receives 100 %.\n"
WAITS = f"Application {NAME}: revision 2 answers until revision 1 has started\n"


def serving(change: Mapping[str, object], *looks: Mapping[str, object] | Answer) -> dict[tuple[str, str], canned_api.Route]:
    """Routes that answer a change with `change`, and successive looks at the application with successive snapshots."""
    left = list(looks)

    def look(_: canned_api.Request) -> Answer:
        found = left.pop(0)
        return found if isinstance(found, Answer) else Answer(found)

    return {
        ("POST", f"/applications/{NAME}/rollback"): Answer(change),
        ("PUT", f"/applications/{NAME}/traffic"): Answer(change),
        ("GET", f"/applications/{NAME}"): look,
        ("GET", "/applications"): Answer([change]),
    }


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


COMMANDS = [f"application rollback {NAME}", f"application traffic {NAME} 1=100"]


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize(
    ("snapshots", "code", "out", "err"),
    [
        ([READY], 0, RECEIVES, ""),
        ([STARTING, STARTING, UNKNOWN, STARTING, READY], 0, RECEIVES, f"{WAITS}Application {NAME}: its status is not known\n{WAITS}"),
        ([STARTING, refused(503, "unavailable", "restarting"), READY], 0, RECEIVES, ""),
        ([snapshot(None, None)], 0, RECEIVES, ""),
        (
            [STARTING, STARTING, FAILED],
            1,
            "",
            f"{WAITS}error: application '{NAME}' cannot answer as routed: its model server did not start: no module named torch; "
            "answering now: revision 2 (models:/diabetes/2)\n",
        ),
        (
            [snapshot("failed", [], "no model")],
            1,
            "",
            f"error: application '{NAME}' cannot answer as routed: no model; answering now: no revision\n",
        ),
    ],
)
def test_a_change_of_the_traffic_ends_when_it_has_taken_effect(
    line: str,
    snapshots: list[dict[str, object]],
    code: int,
    out: str,
    err: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with canned_api.serve(serving(*snapshots)) as server:
        assert fuseml(server, tmp_path, line) == code
        assert len(server.requests) == len(snapshots)
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("line", COMMANDS)
def test_without_wait_a_change_of_the_traffic_ends_at_once(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (STARTING, FAILED):
        with canned_api.serve(serving(answer)) as server:
            assert fuseml(server, tmp_path, f"{line} --no-wait") == 0
            assert len(server.requests) == 1
        assert capsys.readouterr() == (RECEIVES, "")


@pytest.mark.parametrize(("last", "code"), [(READY, 0), (FAILED, 1)])
def test_a_script_gets_the_last_state_also_of_a_failure(
    last: dict[str, object], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve(serving(STARTING, last)) as server:
        assert fuseml(server, tmp_path, f"application rollback {NAME} -o json") == code
    assert json.loads(capsys.readouterr().out) == last


def test_a_wait_ends_with_the_cause_after_its_bound() -> None:
    moments = iter([0.0, 100.0, 299.0, 300.0])
    with canned_api.serve(serving(STARTING, STARTING, STARTING, STARTING)) as server:
        watched = api.Client(server.url, canned_api.TOKEN).applications.watch(
            NAME, 300.0, sleep=lambda _: None, clock=lambda: next(moments)
        )
        assert [next(watched) for _ in range(3)] == [STARTING] * 3
        with pytest.raises(errors.TemporaryError, match="is not ready after 300 s: revision 2 answers until revision 1 has started"):
            next(watched)


@pytest.mark.parametrize(
    ("answering", "in_list", "in_record"),
    [
        ([share(2)], "revision 2", "revision 2 (models:/diabetes/2)"),
        (
            [share(1, 10), share(2, 90)],
            "revision 1 10 %, revision 2 90 %",
            "revision 1 (models:/diabetes/1) 10 %, revision 2 (models:/diabetes/2) 90 %",
        ),
        ([], "no revision", "no revision"),
    ],
)
def test_list_and_get_show_the_revisions_that_answer(
    answering: list[dict[str, object]], in_list: str, in_record: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    application = snapshot("starting", answering, "a cause")
    with canned_api.serve(serving(application, application)) as server:
        assert fuseml(server, tmp_path, "application list") == 0
        title, row = capsys.readouterr().out.splitlines()
        assert title.split() == ["NAME", "MODEL", "STATUS", "ANSWERS", "URL"]
        assert f"  starting  {in_list}  http" in row
        assert fuseml(server, tmp_path, f"application get {NAME}") == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["Answers:", in_record] in lines


def test_what_is_not_known_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve(serving(UNKNOWN, UNKNOWN)) as server:
        assert fuseml(server, tmp_path, "application list") == 0
        assert fuseml(server, tmp_path, f"application get {NAME}") == 0
    assert "answers" not in capsys.readouterr().out.lower()
