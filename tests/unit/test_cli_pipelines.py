"""`fuseml pipeline` and `fuseml catalog` against a real HTTP server with canned responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi
from tests.unit.test_cli import one_line, variables

Run = Callable[..., int]

WORKFLOW = {"name": "train", "steps": [{"name": "builder", "runnable": "mlflow-builder"}]}
COMPOSITION = {
    "workflow": WORKFLOW,
    "couplings": [{"input": "trainer.image", "source": "builder.image", "reason": "\x1b[31mit fits"}],
}
PIPELINE: dict[str, Any] = {
    "name": "serve",
    "template": "fuseml/mlflow-serve@0.1.0",
    "patterns": ["model://demo/*"],
    "revision": 1,
    "workflow": WORKFLOW,
    "changed": True,
}
CATALOG = {"name": "team", "description": "", "url": "https://git.example.com/team.git", "branch": "", "built_in": False}
SHIPPED = {"name": "fuseml", "description": "", "url": "", "branch": "", "built_in": True}
INPUTS = [
    {"name": "rows", "type": "number", "description": "", "default": None, "pattern": False, "needed": True},
    {"name": "data", "type": "dataset", "description": "", "default": "", "pattern": True, "needed": False},
]
TEMPLATES = [
    {"name": "nightly", "description": "Runs\n\x1b[31mat night." + " z" * 9000, "inputs": INPUTS, "outputs": ["report"], "problem": ""},
    {"name": "broken", "description": "", "inputs": [], "outputs": [], "problem": "the workflow is not valid"},
]
CONTENTS = {**CATALOG, "version": "c" * 40, "templates": TEMPLATES}
ROUTES = {
    **canned_api.CONTRACT,
    ("POST", "/pipelines/compose"): Answer(COMPOSITION),
    ("POST", "/pipelines"): Answer(PIPELINE, 201),
    ("GET", "/catalogs"): Answer([SHIPPED, CATALOG]),
    ("POST", "/catalogs"): Answer(CONTENTS, 201),
    ("GET", "/catalogs/team"): Answer(CONTENTS),
    ("GET", "/catalogs/fuseml"): Answer({**SHIPPED, "version": "0.1.0", "templates": TEMPLATES}),
}


@pytest.fixture
def server() -> Iterator[CannedApi]:
    with canned_api.serve(ROUTES) as running:
        yield running


@pytest.fixture
def fuseml(server: CannedApi, tmp_path: Path) -> Run:
    return lambda *arguments: main.run(list(arguments), variables(tmp_path, server.url))


def test_a_composition_is_printed_as_a_document_and_its_couplings_beside_it(
    fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--connect", "trainer.image=builder.image", "--input", "trainer.parameters", "-i", "trainer.data=a=b", "-p", "demo", "-d", "D")
    assert fuseml("pipeline", "compose", "train", "mlflow-builder", "t=trainer@^1", *more) == 0
    assert json.loads(server.requests[-1].body) == {
        "name": "train",
        "runnables": ["mlflow-builder", "t=trainer@^1"],
        "project": "demo",
        "connections": ["trainer.image=builder.image"],
        "inputs": ["trainer.parameters", "trainer.data=a=b"],
        "description": "D",
    }
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out) == WORKFLOW
    assert printed.err == "trainer.image <- builder.image: ␛[31mit fits\n"


@pytest.mark.parametrize(("format", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_composition_in_a_format_is_the_document_alone(
    format: str, load: Callable[[str], Any], fuseml: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml("pipeline", "compose", "train", "builder", "-o", format) == 0
    printed = capsys.readouterr()
    assert (load(printed.out), printed.err) == (WORKFLOW, "")
    file = tmp_path / "out"
    assert fuseml("pipeline", "compose", "train", "builder", "-o", format, "--to", str(file)) == 0
    printed = capsys.readouterr()
    assert (load(file.read_text()), printed.out, printed.err) == (WORKFLOW, "", "")


def test_a_file_that_cannot_be_written_is_one_line(fuseml: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("pipeline", "compose", "train", "builder", "--to", str(tmp_path)) == 1
    assert "cannot be written: Is a directory" in one_line(capsys)


def test_an_addition_names_what_starts_the_pipeline(fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("pipeline", "add", "mlflow-serve", "--name", "serve", "--input", "model=model://*") == 0
    # There is one project.
    assert json.loads(server.requests[-1].body) == {
        "template": "mlflow-serve",
        "name": "serve",
        "project": "demo",
        "inputs": {"model": "model://*"},
    }
    sentence = capsys.readouterr().out
    assert sentence == ("Pipeline serve is added to demo, from fuseml/mlflow-serve@0.1.0. Each new version of model://demo/* starts it.\n")
    assert fuseml("pipeline", "add", "mlflow-serve", "-n", "serve", "-p", "demo", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == PIPELINE
    assert fuseml("pipeline", "add", "mlflow-serve", "-n", "serve", "-i", "model") == 1
    assert "write NAME=VALUE" in capsys.readouterr().err


def test_a_pipeline_that_nothing_starts_names_the_command_that_runs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer({**PIPELINE, "patterns": [], "changed": False}, 201)
    with canned_api.serve({**ROUTES, ("POST", "/pipelines"): answer}) as server:
        assert main.run(["pipeline", "add", "t", "-n", "serve", "-p", "demo"], variables(tmp_path, server.url)) == 0
    assert capsys.readouterr().out == (
        "Pipeline serve was there already, unchanged, in demo, from fuseml/mlflow-serve@0.1.0. `fuseml workflow run serve -p demo` runs it.\n"
    )


def test_catalogues_and_templates_are_tables(fuseml: Run, server: CannedApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("catalog", "add", "team", "https://git.example.com/team.git", "--branch", "main") == 0
    assert json.loads(server.requests[-1].body)["branch"] == "main"
    assert capsys.readouterr().out == "Catalogue team has 2 templates at commit cccccccccccc.\n"
    assert fuseml("catalog", "list") == 0
    assert "ships with FuseML" in capsys.readouterr().out
    assert fuseml("catalog", "show", "team") == 0
    shown = capsys.readouterr().out
    assert "https://git.example.com/team.git at commit cccccccccccc" in shown
    assert [line.split()[:2] for line in shown.splitlines()[2:4]] == [["nightly", "rows"], ["data?"]], "an input a line"
    assert "Runs \u241b[31mat night." in shown
    assert len(shown) < 4000, "a description of any length"
    assert "cannot be added: the workflow is not valid" in shown
    assert fuseml("catalog", "show") == 0
    assert "Templates of FuseML 0.1.0:" in capsys.readouterr().out
    assert fuseml("catalog", "show", "team", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == CONTENTS
