"""`fuseml events` and `fuseml why` against a real HTTP server with canned responses."""

from __future__ import annotations

import datetime
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from fuseml.cli import main
from fuseml.cli.events import moment
from fuseml.client import transport
from fuseml.client.events import Events
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, Request, refused
from tests.unit.test_cli import one_line, variables
from tests.waiting import PATIENCE

ID = "artifact.recorded:model://demo/diabetes/1:recorded"
EVENT: dict[str, Any] = {
    "number": 42,
    "type": "org.fuseml.run.cancel_requested.v1",
    "source": "/runs/w-1",
    "id": "run.cancel_requested:w-1:2026",
    "subject": "w-1",
    "time": "2026-01-01T10:00:00.000000Z",
    "received": "2026-01-01T10:00:00.000000Z",
    "outcome": "dead",
    "deliveries": [
        {"consumer": "artifacts", "state": "done", "attempts": 1, "error": None},
        {"consumer": "dispatcher", "state": "dead", "attempts": 1, "error": "status 400: there is no run named 'w-1'"},
    ],
}
WHOLE = {**EVENT, "data": {"run": "w-1", "reason": "enough"}, "extensions": {"causesource": "/events"}}
SENT = {"type": EVENT["type"], "source": EVENT["source"], "id": "run.cancel_requested:w-1:1", "subject": "w-1", "duplicate": False}
WHY: dict[str, Any] = {
    "of": "3f2a91c4",
    "kind": "commit",
    "answer": "Commit 3f2a91c4 started mlflow-e2e-1.",
    "stories": [
        {
            "chain": [
                {"kind": "origin", "text": "a webhook of the git host, delivery d-1", "time": None, "event": None},
                {"kind": "event", "text": "codeset.pushed demo/x refs/heads/main at 3f2a91c4", "time": EVENT["time"], "event": 42},
            ],
            "outcomes": [
                {"state": "succeeded", "run": "mlflow-e2e-1", "workflow": "mlflow-e2e", "reason": "refs/heads/main was pushed"},
                {"state": "nothing", "run": None, "workflow": "train", "reason": "no changed file matches src/**"},
                {"state": "dead", "run": None, "workflow": None, "reason": "delivery to artifacts failed for good: status 400: no"},
            ],
        }
    ],
}

ROUTES: dict[tuple[str, str], canned_api.Route] = {
    ("GET", "/events"): Answer([EVENT]),
    ("GET", "/events/dead-letters"): Answer([EVENT]),
    ("GET", "/events/42"): Answer(WHOLE),
    ("POST", "/events/42/replay"): Answer({**WHOLE, "outcome": "pending"}, 202),
    ("DELETE", "/events/dead-letters/42"): Answer({**WHOLE, "outcome": "dropped"}),
    ("POST", "/events"): Answer(SENT, 202),
    ("GET", "/why"): Answer(WHY),
}


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve(ROUTES) as running:
        yield running


@pytest.fixture(autouse=True)
def forgotten(server: CannedApi) -> None:
    server.requests.clear()


def fuseml(server: CannedApi, home: Path, *arguments: str) -> int:
    return main.run(arguments, variables(home, server.url))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("events list", [EVENT]),
        ("events list --dead", [EVENT]),
        ("events show 42", WHOLE),
        ("events replay 42", {**WHOLE, "outcome": "pending"}),
        ("events drop 42", {**WHOLE, "outcome": "dropped"}),
        ("events send run.cancel_requested run=w-1 reason=enough", SENT),
        ("why 3f2a91c4", WHY),
    ],
)
def test_json_and_yaml_output_is_the_object_of_the_api(
    line: str, answer: object, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, *line.split(), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == answer
    assert fuseml(server, tmp_path, *line.split(), "-o", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == answer


def test_the_list_shows_the_outcome_of_each_event(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "events", "list", "-t", "run.*", "-s", "w-1") == 0
    assert re.search(r"42 +run\.cancel_requested +w-1 +\d+d +dead", capsys.readouterr().out)
    assert server.requests[0].query == {"type": ["run.*"], "subject": ["w-1"], "limit": ["50"]}
    assert fuseml(server, tmp_path, "events", "list", "--dead") == 0
    assert re.search(r"42 .* dispatcher +status 400: there is no run named 'w-1'", capsys.readouterr().out)
    assert server.requests[1].path == "/events/dead-letters"


def test_since_accepts_a_duration(server: CannedApi, tmp_path: Path) -> None:
    assert fuseml(server, tmp_path, "events", "list", "--since", "10m") == 0
    [since] = server.requests[0].query["since"]
    ago = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(since)
    assert 600 <= ago.total_seconds() < 660
    assert moment("2026-01-01T00:00:00Z") == "2026-01-01T00:00:00Z"


def test_an_empty_list_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("GET", "/events/dead-letters"): Answer([]), ("GET", "/events"): Answer([])}) as server:
        assert fuseml(server, tmp_path, "events", "list", "--dead") == 0
        assert capsys.readouterr().err == "There are no dead letters: every event was delivered.\n"
        assert fuseml(server, tmp_path, "events", "replay", "--dead") == 0
        assert capsys.readouterr().err == "There are no dead letters.\n"


def test_an_event_is_shown_with_deliveries_and_data(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "events", "show", "42") == 0
    shown = capsys.readouterr().out
    assert re.search(r"dispatcher +dead +1 +status 400: there is no run named 'w-1'", shown.partition("Deliveries:")[2])
    assert re.search(r"reason +enough", shown.partition("Data:")[2])
    assert "None" not in shown


def test_an_id_with_slashes_is_one_path_segment(tmp_path: Path) -> None:
    with canned_api.serve({("GET", f"/events/{quote(ID, safe='')}"): Answer(WHOLE)}) as server:
        assert fuseml(server, tmp_path, "events", "show", ID, "--source", "/artifacts") == 0
        assert server.requests[0].query == {"source": ["/artifacts"]}


def test_replay_prints_the_next_command(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "Event 42 (run.cancel_requested) is being delivered again; see `fuseml events show 42`.\n"
    for selected in ("42", "--dead"):
        assert fuseml(server, tmp_path, "events", "replay", selected) == 0
        assert capsys.readouterr().out == sentence
    assert fuseml(server, tmp_path, "events", "replay", "42", "--all") == 0
    assert server.requests[-1].query == {"all": ["true"]}
    capsys.readouterr()
    for arguments in ((), ("42", "--dead")):
        assert fuseml(server, tmp_path, "events", "replay", *arguments) == 1
        assert one_line(capsys) == "error: name one event, or pass --dead for all dead letters\n"


def test_a_refused_replay_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = refused(409, "conflict", "event 42 is no dead letter")
    with canned_api.serve({("POST", "/events/42/replay"): refusal}) as server:
        assert fuseml(server, tmp_path, "events", "replay", "42") == 1
    assert one_line(capsys) == "error: event 42 is no dead letter\n"


def test_an_event_is_published_from_fields_and_a_file(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("run: w-1\nreason: from the file\n")
    assert fuseml(server, tmp_path, "events", "send", "run.cancel_requested", "reason=a=b", "-f", str(file), "--id", "again") == 0
    assert capsys.readouterr().out == "Published run.cancel_requested with id run.cancel_requested:w-1:1.\n"
    assert json.loads(server.requests[0].body) == {
        "type": "run.cancel_requested",
        "data": {"run": "w-1", "reason": "a=b"},
        "id": "again",
    }
    file.write_text("- a list\n")
    assert fuseml(server, tmp_path, "events", "send", "run.cancel_requested", "-f", str(file)) == 1
    assert "must contain a mapping of the event's fields" in one_line(capsys)


def test_a_duplicate_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve({("POST", "/events"): Answer({**SENT, "duplicate": True}, 202)}) as server:
        assert fuseml(server, tmp_path, "events", "send", "run.cancel_requested", "run=w-1") == 0
    assert capsys.readouterr().out.startswith("The event run.cancel_requested:w-1:1 exists, so this has no effect")


def test_why_is_a_sentence_and_a_tree(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "why", "3f2a91c4") == 0
    lines = [re.sub(r"\d+d ago", "1d ago", line.rstrip()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "Commit 3f2a91c4 started mlflow-e2e-1.",
        "",
        "a webhook of the git host, delivery d-1",
        "└── codeset.pushed demo/x refs/heads/main at 3f2a91c4  (event 42, 1d ago)",
        "    ├── → mlflow-e2e-1 succeeded: refs/heads/main was pushed",
        "    ├── ✗ train: no changed file matches src/**",
        "    └── ✗ dead: delivery to artifacts failed for good: status 400: no",
    ]
    assert server.requests[0].query == {"of": ["3f2a91c4"]}


# Following


def listed(number: int, outcome: str, received: str = "2026-01-01T10:00:00.000000Z") -> dict[str, Any]:
    return {**EVENT, "number": number, "outcome": outcome, "received": received}


class Stop(Exception):
    pass


def followed(responses: list[object], **options: Any) -> tuple[list[tuple[int, str]], list[dict[str, list[str]]]]:
    """The events yielded for successive responses of the server, and the queries of the requests."""
    remaining = iter(responses)

    def answer(_: Request) -> Answer:
        response = next(remaining)
        return response if isinstance(response, Answer) else Answer(response)

    left = len(responses)

    def sleep(_: float) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stop

    yielded = []
    with canned_api.serve({("GET", "/events"): answer}) as server:
        events = Events(transport.Transport(server.url, canned_api.TOKEN, 5))
        with pytest.raises(Stop):
            for event in events.follow(sleep=sleep, **options):
                yielded.append((event["number"], event["outcome"]))
        return yielded, [request.query for request in server.requests]


def test_following_shows_each_event_once_and_again_when_its_outcome_changes() -> None:
    yielded, queries = followed(
        [
            [listed(2, "pending"), listed(1, "done")],
            [listed(3, "done"), listed(2, "pending"), listed(1, "done")],
            [listed(3, "done"), listed(2, "dead")],
            [listed(3, "done"), listed(2, "dead")],
        ]
    )
    assert yielded == [(1, "done"), (2, "pending"), (3, "done"), (2, "dead")]
    assert queries[0] == {"limit": ["10"]}
    # Ten seconds before the newest.
    assert queries[1] == {"since": ["2026-01-01T09:59:50.000000Z"]}


def test_following_lists_events_since_the_oldest_pending_one() -> None:
    _, queries = followed([[listed(2, "done"), listed(1, "pending", "2026-01-01T08:00:00.000000Z")], []])
    assert queries[1] == {"since": ["2026-01-01T08:00:00.000000Z"]}


def test_following_yields_no_event_older_than_the_first_one() -> None:
    yielded, _ = followed([[listed(7, "done")], [listed(8, "done"), listed(7, "done"), listed(6, "done")]], last=1)
    assert yielded == [(7, "done"), (8, "done")]


def test_following_from_now_on_yields_only_new_events() -> None:
    yielded, queries = followed([[listed(1, "done")], []], last=0)
    assert yielded == [(1, "done")]
    assert all("since" in query for query in queries)


def test_following_retries_while_the_server_is_unreachable() -> None:
    unavailable = refused(503, "unavailable", "the database is busy")
    yielded, _ = followed([[listed(1, "done")], unavailable, [listed(2, "done"), listed(1, "done")]])
    assert yielded == [(1, "done"), (2, "done")]
    moments = iter((0.0, 0.0, 31.0))
    with canned_api.serve({("GET", "/events"): lambda _: unavailable}) as server:
        events = Events(transport.Transport(server.url, canned_api.TOKEN, 5))
        with pytest.raises(errors.TemporaryError):
            next(events.follow(sleep=lambda _: None, clock=lambda: next(moments)))


def test_tail_ends_cleanly_with_ctrl_c_and_fits_the_terminal(tmp_path: Path) -> None:
    long = {**EVENT, "subject": "model://demo/" + "x" * 100}
    with canned_api.serve({("GET", "/events"): Answer([long])}) as server:
        parent, child = pty.openpty()
        environment = {**variables(tmp_path, server.url), "COLUMNS": "80", "TERM": "xterm"}
        process = subprocess.Popen([*commands.FUSEML, "events", "tail"], env=environment, stdout=child, stderr=child, stdin=child)
        os.close(child)
        screen = b""
        while b"\n" not in screen:
            screen += os.read(parent, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        os.close(parent)
    [line] = screen.decode().strip().splitlines()
    assert "run.cancel_requested" in line
    assert line.endswith("…  dead: dispatcher")
    assert len(line) <= 80


def test_tail_as_json_is_one_object_a_line(tmp_path: Path) -> None:
    with canned_api.serve({("GET", "/events"): Answer([EVENT])}) as server:
        process = subprocess.Popen(
            [*commands.FUSEML, "events", "tail", "-o", "json"],
            env={**variables(tmp_path, server.url), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == EVENT
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        process.stdout.close()
