"""The current project: `fuseml project set`, FUSEML_PROJECT, and the default of `-p` in every command."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from fuseml.cli import current, main
from fuseml.cli.settings import CliSettings
from tests.component import canned_api
from tests.component.canned_api import Answer, Request, refused
from tests.unit.test_cli import variables


@dataclass(frozen=True)
class Laptop:
    """A user's configuration and a server; the requests that it received."""

    environment: dict[str, str]
    requests: list[Request]

    def fuseml(self, *arguments: str, **more: str) -> int:
        return main.run(arguments, {**self.environment, **more})

    @property
    def file(self) -> Path:
        return Path(self.environment["FUSEML_CONFIG"])

    def project_of(self, *arguments: str, **more: str) -> str | None:
        """The project in the query of the last request of a command."""
        self.requests.clear()
        assert self.fuseml(*arguments, **more) == 0
        return next(iter(self.requests[-1].query.get("project", [])), None)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    missing = refused(404, "not_found", "there is no project named 'nope'; `fuseml project list` shows those that exist")
    other = Answer({**canned_api.PROJECT, "name": "other"})
    routes = {**canned_api.CONTRACT, ("GET", "/projects/nope"): missing, ("GET", "/projects/other"): other}
    with canned_api.serve({**routes, ("GET", "/pipelines/results"): Answer([])}) as server:
        yield Laptop(variables(tmp_path, server.url), server.requests)


def test_a_project_is_set_shown_and_removed(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    assert laptop.fuseml("project", "set", "demo") == 0
    assert capsys.readouterr().out == f"Project demo is the current one, saved in {laptop.file}.\n"
    assert stat.S_IMODE(laptop.file.stat().st_mode) == 0o600
    assert laptop.fuseml("project", "list") == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["NAME", "CURRENT"]
    assert laptop.fuseml("config", "show") == 0
    assert "Project: demo" in " ".join(capsys.readouterr().out.split())
    assert laptop.fuseml("project", "list", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == [canned_api.PROJECT]
    assert laptop.fuseml("project", "set", "") == 0
    assert json.loads(laptop.file.read_text()) == {}
    capsys.readouterr()
    assert laptop.fuseml("project", "list") == 0
    assert "CURRENT" not in capsys.readouterr().out


def test_a_project_that_does_not_exist_changes_nothing(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    assert laptop.fuseml("project", "set", "nope") == 1
    assert capsys.readouterr().err == "error: there is no project named 'nope'; `fuseml project list` shows those that exist\n"
    assert not laptop.file.exists()


def test_setting_a_project_keeps_the_server_and_the_other_way_round(laptop: Laptop) -> None:
    laptop.fuseml("config", "set", "--url", "https://team.example.org", "--token", "x")
    laptop.fuseml("project", "set", "demo")
    assert json.loads(laptop.file.read_text()) == {"url": "https://team.example.org", "token": "x", "project": "demo"}
    laptop.fuseml("config", "set", "--url", "")
    assert json.loads(laptop.file.read_text()) == {"project": "demo"}


def test_the_deletion_of_the_current_project_ends_it(laptop: Laptop) -> None:
    laptop.fuseml("project", "set", "demo")
    assert laptop.fuseml("project", "delete", "demo") == 0
    assert json.loads(laptop.file.read_text()) == {}


def test_an_option_wins_over_the_variable_and_the_variable_over_the_file(laptop: Laptop) -> None:
    assert laptop.project_of("run", "list") is None
    laptop.fuseml("project", "set", "demo")
    assert laptop.project_of("run", "list") == "demo"
    assert laptop.project_of("run", "list", FUSEML_PROJECT="other") == "other"
    assert laptop.project_of("run", "list", "-p", "third", FUSEML_PROJECT="other") == "third"
    assert laptop.project_of("run", "list", "-p", "") is None


def test_a_required_project_may_be_left_out(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    assert laptop.fuseml("codeset", "get", "-n", "diabetes") == 2
    assert "missing option" in capsys.readouterr().err
    laptop.fuseml("project", "set", "demo")
    assert laptop.fuseml("codeset", "get", "-n", "diabetes") == 0


def test_an_address_or_pattern_that_names_a_project_is_not_narrowed(laptop: Laptop) -> None:
    laptop.fuseml("project", "set", "demo")
    assert laptop.project_of("artifact", "search", "model://other/*") is None
    assert laptop.project_of("artifact", "search", "model://other/*", "-p", "demo") == "demo"
    assert laptop.project_of("artifact", "search", "--kind", "model") == "demo"
    assert laptop.project_of("pipeline", "results", "show", "--code", "code://other/c/f3b0924") is None


def test_a_damaged_file_is_one_line_and_only_where_it_is_needed(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    laptop.file.write_text("{")
    assert laptop.fuseml("run", "list") == 1
    assert capsys.readouterr().err == f"error: {laptop.file} is not a configuration file; repair or delete it\n"
    assert laptop.fuseml("run", "list", "-p", "demo") == 0
    assert laptop.fuseml("run", "list", "--help") == 0


def test_the_variable_is_named_where_it_hides_what_was_set(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    assert laptop.fuseml("project", "set", "demo", FUSEML_PROJECT="other") == 0
    assert capsys.readouterr().err == "FUSEML_PROJECT is set: commands use other nevertheless.\n"


def test_a_codeset_is_set_with_its_project_and_used_where_one_is_needed(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    assert laptop.fuseml("codeset", "set", "diabetes") == 1
    assert "name the codeset's project with -p" in capsys.readouterr().err
    assert laptop.fuseml("codeset", "set", "-n", "diabetes", "-p", "demo") == 0
    assert capsys.readouterr().out == f"Codeset demo/diabetes is the current one, saved in {laptop.file}.\n"
    assert json.loads(laptop.file.read_text()) == {"codeset": "diabetes", "project": "demo"}
    assert laptop.fuseml("codeset", "get") == 0
    assert laptop.fuseml("workflow", "assign", "mlflow-e2e") == 0
    assigned = next(request for request in laptop.requests if request.method == "POST")
    assert (assigned.query["codesetProject"], assigned.query["codesetName"]) == (["demo"], ["diabetes"])
    laptop.requests.clear()
    # A list is narrowed by the project only, as its help says.
    assert laptop.fuseml("workflow", "list-runs") == 0
    assert laptop.requests[-1].query == {"project": ["demo"]}
    capsys.readouterr()
    assert laptop.fuseml("config", "show") == 0
    assert "Codeset: diabetes" in " ".join(capsys.readouterr().out.split())


def test_the_current_codeset_ends_with_its_project_and_with_itself(laptop: Laptop) -> None:
    for line in ("project set other", "project set ''", "codeset set ''", "codeset delete -n diabetes", "project delete demo"):
        laptop.file.write_text('{"codeset": "diabetes", "project": "demo"}')
        assert laptop.fuseml(*[word.strip("'") for word in line.split()]) == 0
        assert "codeset" not in json.loads(laptop.file.read_text()), line
    laptop.file.write_text('{"codeset": "diabetes", "project": "demo"}')
    assert laptop.fuseml("project", "set", "demo") == 0
    assert "codeset" in json.loads(laptop.file.read_text())


def test_a_registration_and_a_deletion_name_their_codeset(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    laptop.file.write_text('{"codeset": "diabetes", "project": "demo"}')
    for command in ("register .", "delete"):
        assert laptop.fuseml("codeset", *command.split()) == 2
        assert "missing option" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "codeset"), [("codeset", "diabetes"), ("string", None)])
@pytest.mark.parametrize("command", ["run plan", "workflow run"])
def test_a_workflow_that_takes_a_codeset_runs_on_the_current_one(kind: str, codeset: str | None, command: str, tmp_path: Path) -> None:
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/workflows/mlflow-e2e"): Answer({**canned_api.WORKFLOW, "inputs": [{"name": "x", "type": kind}]}),
        ("POST", "/workflows/mlflow-e2e/plan"): refused(409, "conflict", "enough"),
        ("POST", "/runs"): refused(409, "conflict", "enough"),
    }
    with canned_api.serve(routes) as server:
        environment = {**variables(tmp_path, server.url), "FUSEML_PROJECT": "demo", "FUSEML_CODESET": "diabetes"}
        for more, expected in (([], codeset), (["-c", "other"], "other"), (["-c", ""], None)):
            assert main.run([*command.split(), "mlflow-e2e", *more], environment) == 1
            assert json.loads(server.requests[-1].body).get("codeset") == expected


def test_all_codesets_are_listed_beside_a_current_project(laptop: Laptop, capsys: pytest.CaptureFixture[str]) -> None:
    laptop.fuseml("project", "set", "demo")
    assert laptop.project_of("codeset", "list") == "demo"
    assert laptop.project_of("codeset", "list", "--all") is None
    assert laptop.fuseml("codeset", "list", "--all", "-p", "demo") == 2
    assert "give --all or --project, not both" in capsys.readouterr().err


def test_every_project_option_has_the_default(tmp_path: Path) -> None:
    command: Any = typer.main.get_command(main.app)
    current.add_to(command, CliSettings(project="demo", config=str(tmp_path / "none")))
    found = []

    def walk(command: Any, words: str) -> None:
        for option in command.params:
            if option.opts[0] in ("--project", "--codeset-project") and not option.multiple:
                found.append(words)
                assert option.default() == "demo", words
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{words} {name}")

    walk(command, "fuseml")
    assert len(found) > 20
