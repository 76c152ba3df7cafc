"""`fuseml login`, `logout` and `whoami`, and the pages of tools that `--open` shows."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fuseml.cli import main
from tests import commands
from tests.component import canned_api
from tests.component.canned_api import TOKEN, Answer, CannedApi
from tests.unit.test_cli import one_line, variables
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    page = {"address": "model://demo/diabetes/1", "url": "http://mlflow.example.org/#/models/diabetes/versions/1"}
    logged = {**canned_api.RUN["steps"][0], "outputs": {"mlflow-run": "4f2a"}}  # type: ignore[index]  # a list
    bound = {**canned_api.RUN["bindings"][0], "service_resource": "mlflow-tracking"}  # type: ignore[index]  # a list
    routes: dict[tuple[str, str], canned_api.Route] = {
        **canned_api.CONTRACT,
        ("GET", "/runs/logged-1"): Answer({**canned_api.RUN, "name": "logged-1", "steps": [logged], "bindings": [bound]}),
        ("GET", "/artifacts/model/demo/diabetes/1/page"): Answer(page),
    }
    with canned_api.serve(routes) as running:
        yield running


def environment(home: Path) -> dict[str, str]:
    return {"FUSEML_CONFIG": str(home / "config.yaml"), "FUSEML_HOME": str(home)}


def test_a_server_is_stored_when_it_accepts_the_token_and_forgotten_again(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, given = tmp_path / "config.yaml", environment(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))
    assert main.run(["login", f"{server.url}/", "--token", "-"], given) == 0
    assert capsys.readouterr().out == f"{server.url} accepts the token; both are saved in {file}.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert yaml.safe_load(file.read_text()) == {"url": server.url, "token": TOKEN}
    assert main.run(["whoami", "-o", "json"], given) == 0
    assert json.loads(capsys.readouterr().out) == {"url": server.url, "token": str(file), "project": "", "access": "accepted"}
    assert main.run(["project", "list"], given) == 0
    capsys.readouterr()
    assert main.run(["logout"], given) == 0
    assert capsys.readouterr().out == f"{server.url} is removed from {file}. The token stays valid at the server.\n"
    assert TOKEN not in file.read_text()
    assert main.run(["logout"], given) == 0
    assert capsys.readouterr().err == f"{file} names no server.\n"


@pytest.mark.parametrize(
    ("seen", "lines"),
    [
        (
            {"name": "ada", "role": "admin", "kind": "user", "scopes": ["*"], "step": None},
            ["Name: ada", "Kind: user", "May do: everything"],
        ),
        ({"name": "anonymous", "role": "admin", "kind": "anonymous", "scopes": ["*"], "step": None}, ["Kind: anonymous"]),
        (
            {
                "name": "step fit of a-1",
                "role": "step",
                "kind": "step",
                "scopes": ["tracking"],
                "step": {"project": "demo", "workflow": "a", "run": "a-1", "step": "fit"},
            },
            ["Role: step", "May do: tracking", "Step: fit of a-1"],
        ),
    ],
    ids=["user", "anonymous", "step"],
)
def test_the_caller_is_shown_as_the_server_sees_it(
    seen: dict[str, object], lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve({("GET", "/whoami"): Answer(seen)}) as server:
        given = {**environment(tmp_path), "FUSEML_SERVER_URL": server.url, "FUSEML_TOKEN": TOKEN}
        assert main.run(["whoami"], given) == 0
        shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert {*lines, "Access: accepted", "Token: FUSEML_TOKEN"} <= {*shown}, shown


def test_a_refused_token_is_not_stored(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["login", server.url, "--token", "canary"], environment(tmp_path)) == 1
    assert "the token is not valid" in capsys.readouterr().err
    assert not (tmp_path / "config.yaml").exists()
    assert main.run(["login", server.url], environment(tmp_path)) == 1
    assert "give it with --token -" in one_line(capsys)


def test_whoami_says_that_a_token_is_refused(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["whoami"], variables(tmp_path, server.url, "canary")) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "Token: FUSEML_TOKEN Access: refused: the token is not valid" in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("line", "page"),
    [
        ("run get logged-1 --open", "http://127.0.0.1:5000/#/runs/4f2a"),
        ("run get mlflow-e2e-1 --open", "http://mlflow.example.org/#/models/diabetes/versions/1"),
        ("model get diabetes/1 -p demo --open", "http://mlflow.example.org/#/models/diabetes/versions/1"),
    ],
)
def test_the_page_of_the_tool_is_printed_and_opened(line: str, page: str, server: CannedApi, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "xdg-open"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    given = {**variables(tmp_path, server.url), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert commands.fuseml(*line.split(), environment=given).stdout == f"{page}\n"
    wait_until(opened.exists, "the page is opened")
    assert opened.read_text() == f"{page}\n"


def test_no_output_shows_the_token_of_a_url(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, with_account = environment(tmp_path), server.url.replace("://", f"://any:{TOKEN}@")
    assert main.run(["login", with_account], given) == 0
    assert main.run(["config", "set", "--url", with_account], given) == 0
    assert main.run(["whoami"], given) == 0
    assert main.run(["logout"], given) == 0
    assert main.run(["--url", server.url.replace("://", "://any:part/of@"), "project", "list"], given) == 1
    shown = capsys.readouterr()
    assert TOKEN not in shown.out + shown.err
    assert "part/of" not in shown.err
    assert "%2F" in shown.err
