"""Completion of names in the shell, as bash asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import variables

HOSTILE = {**canned_api.RUN, "name": "x'; touch $(id)"}


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve({**canned_api.CONTRACT, ("GET", "/runs"): Answer([canned_api.RUN, HOSTILE])}) as running:
        yield running


def completed(line: str, environment: dict[str, str]) -> list[str]:
    """The completions of the last word of a line."""
    asked = {"_FUSEML_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    # The installed command is called `fuseml`; so is its variable.
    process = commands.python("from fuseml.cli import main; main.main()", environment={**environment, **asked})
    assert process.stderr == ""
    return process.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("fuseml run get ", ["mlflow-e2e-1"]),
        ("fuseml run logs mlfl", ["mlflow-e2e-1"]),
        ("fuseml run get other", []),
        ("fuseml workflow run ", ["mlflow-e2e"]),
        ("fuseml workflow assign mlflow-e2e -p demo -c ", ["diabetes"]),
        ("fuseml push -p ", ["demo"]),
        ("fuseml project get ", ["demo"]),
        ("fuseml application call ", ["demo-diabetes"]),
        ("fuseml extension get ", ["mlflow"]),
        ("fuseml model promote ", ["diabetes"]),
        ("fuseml run li", ["list"]),
    ],
)
def test_names_are_completed(line: str, names: list[str], server: CannedApi, tmp_path: Path) -> None:
    assert completed(line, variables(tmp_path, server.url)) == names


def test_without_a_server_nothing_is_completed_and_nothing_is_said(tmp_path: Path) -> None:
    assert completed("fuseml run get ", variables(tmp_path, "http://127.0.0.1:1")) == []
