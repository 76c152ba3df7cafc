"""The moving address of an application's model in `application list` and `get`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer
from tests.unit.test_cli import variables

MOVING = {**canned_api.APPLICATION, "requested": "models:/diabetes@champion", "follow": True}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"behind": "models:/diabetes/2"}, "models:/diabetes@champion is models:/diabetes/2 now"),
        ({"behind": None, "address_problem": "models:/diabetes@champion names no version"}, "models:/diabetes@champion names no version"),
        ({"behind": None, "address_problem": None}, None),
    ],
)
def test_the_address_and_the_version_behind_it_are_shown(
    fields: dict[str, object], shown: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {**MOVING, **fields}
    routes = {("GET", "/applications"): Answer([record]), ("GET", "/applications/demo-diabetes"): Answer(record)}
    with canned_api.serve({**canned_api.CONTRACT, **routes}) as server:
        for command in (["list"], ["get", "demo-diabetes"]):
            assert main.run(["application", *command], variables(tmp_path, server.url)) == 0
            printed = capsys.readouterr().out
            assert (shown in printed) if shown else "behind" not in printed.lower()
    assert "models:/diabetes@champion, followed" in printed
