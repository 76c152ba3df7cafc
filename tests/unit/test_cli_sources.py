"""`fuseml source`: the name that an address gives, and the numbers in its sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer
from tests.unit.test_cli import variables

SOURCE: dict[str, Any] = {
    "name": "config",
    "project": "demo",
    "codeset": "config",
    "url": "",
    "branch": "",
    "path": "",
    "state": "synced",
    "message": "",
    "commit": "c" * 40,
    "seen": "c" * 40,
    "checked": "",
    "synced": "",
    "by": "ada",
    "created": "",
    "items": 1,
    "drifted": 0,
    "contents": [],
    "refusals": [],
    "changes": [],
}


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("https://ada:TOKEN@git.example.com/team/config.git", "config"),
        ("https://ada:to/TOKEN@git.example.com/team/config/", "config"),
        ("https://git.example.com/config?ref=a/b", "config"),
        ("demo/config", "config"),
    ],
)
def test_a_source_has_the_name_of_its_repository(tmp_path: Path, repository: str, name: str) -> None:
    with canned_api.serve({("POST", "/sources"): Answer(SOURCE, 201)}) as server:
        assert main.run(("source", "add", repository), variables(tmp_path, server.url)) == 0
        [request] = [item for item in server.requests if item.method == "POST"]
    assert json.loads(request.body)["name"] == name


@pytest.mark.parametrize(
    "repository", ["https://ada:TOKEN@git.example.com", "https://git.example.com/", "https://ada:to/TOKEN@git.example.com"]
)
def test_an_address_without_a_path_needs_a_name_and_shows_no_account(
    tmp_path: Path, repository: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with canned_api.serve({("POST", "/sources"): Answer(SOURCE, 201)}) as server:
        environment = variables(tmp_path, server.url)
        assert main.run(("source", "add", repository), environment) == 1
        assert not [item for item in server.requests if item.method == "POST"]
        shown = "".join(capsys.readouterr())
        assert ("--name" in shown, "TOKEN" in shown) == (True, False)
        assert main.run(("source", "add", repository, "--name", "config"), environment) == 0
    assert capsys.readouterr().out == "Source config is at commit cccccccccccc, with 1 item.\n"


@pytest.mark.parametrize(("items", "fate"), [(1, "its 1 item stays"), (2, "its 2 items stay"), (0, "its 0 items stay")])
def test_a_removal_says_what_stays(tmp_path: Path, items: int, fate: str, capsys: pytest.CaptureFixture[str]) -> None:
    routes = {("GET", "/sources/config"): Answer({**SOURCE, "items": items}), ("DELETE", "/sources/config"): Answer(None, 204)}
    with canned_api.serve(routes) as server:
        assert main.run(("source", "remove", "config"), variables(tmp_path, server.url)) == 0
    assert capsys.readouterr().out == f"Source config successfully removed; {fate}.\n"
