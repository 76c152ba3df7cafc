"""Settings from flags, environment variables, the configuration file and a local server's home, and their precedence."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from fuseml.cli import global_options, main, options
from fuseml.cli.settings import CliSettings
from fuseml.client import configuration
from fuseml.client.settings import DEFAULT_URL
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "url").write_text("http://127.0.0.1:41000\n")
    (tmp_path / "token").write_text("home-token\n")
    return tmp_path


def settings(home: Path, **variables: str) -> CliSettings:
    return CliSettings.from_env({"FUSEML_HOME": str(home), "FUSEML_CONFIG": str(home / "config.json"), **variables})


def test_the_local_server_is_found_with_its_token(home: Path) -> None:
    assert settings(home).server_url() == "http://127.0.0.1:41000"
    assert settings(home).access_token() == "home-token"


def test_without_settings_the_default_url_and_the_home_token_are_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("home-token\n")
    assert settings(tmp_path).server_url() == DEFAULT_URL
    assert settings(tmp_path).access_token() == "home-token"


def test_a_variable_takes_precedence_over_the_home(home: Path) -> None:
    given = settings(home, FUSEML_SERVER_URL="http://other:1", FUSEML_TOKEN="mine")
    assert (given.server_url(), given.access_token()) == ("http://other:1", "mine")


def test_only_the_home_server_receives_the_home_token(home: Path) -> None:
    assert settings(home, FUSEML_SERVER_URL="http://other:1").access_token() is None
    assert settings(home, FUSEML_SERVER_URL="http://127.0.0.1:41000/").access_token() == "home-token"


def test_only_the_configured_server_receives_the_configured_token(home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"url": "https://team.example.org", "token": "team-token"}))
    assert settings(home).server_url() == "https://team.example.org"
    assert settings(home).access_token() == "team-token"
    assert settings(home, FUSEML_SERVER_URL="http://other:1").access_token() is None
    assert settings(home, FUSEML_SERVER_URL="http://127.0.0.1:41000").access_token() == "home-token"


def test_a_damaged_configuration_file_is_an_error(home: Path) -> None:
    (home / "config.json").write_text("{")
    with pytest.raises(errors.InvalidError, match=r"config\.json"):
        settings(home).server_url()


@pytest.mark.parametrize("timeout", ["soon", "-1", "0", "inf", "nan"])
def test_a_timeout_that_is_not_a_number_of_seconds_is_an_error(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["project", "list"], {"FUSEML_HTTP_TIMEOUT": timeout}) == 1
    assert capsys.readouterr().err == f"error: FUSEML_HTTP_TIMEOUT is {timeout!r}; set it to a positive number of seconds\n"


def test_no_secret_is_in_a_representation(home: Path) -> None:
    given = settings(home, FUSEML_TOKEN="canary-1", FUSEML_PROJECT_PASSWORD="canary-2")
    assert "canary" not in repr(given)


def test_config_stores_url_and_token_in_a_private_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "sub" / "config.json"
    environment = {"FUSEML_HOME": str(home), "FUSEML_CONFIG": str(file)}
    commands.fuseml("config", "set", "--url", "https://team.example.org", "--token", "-", environment=environment, text="canary\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"url": "https://team.example.org", "token": "canary"}
    assert main.run(["config", "show"], environment) == 0
    shown = capsys.readouterr().out
    assert "https://team.example.org" in shown
    assert "<hidden>" in shown
    assert "canary" not in shown
    assert [path.name for path in file.parent.iterdir()] == ["config.json"]
    assert main.run(["config", "set", "--url", "", "--token", ""], environment) == 0
    assert json.loads(file.read_text()) == {}


KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]*", fullmatch=True)


@given(st.dictionaries(KEYS, st.text()), st.sampled_from("=:"))
def test_configuration_entries_keep_their_values(entries: dict[str, str], sign: str) -> None:
    assert options.pairs([f"{key}{sign}{value}" for key, value in entries.items()]) == entries


@pytest.mark.parametrize("entry", ["", "KEY", "=value", ":value"])
def test_an_entry_without_a_key_is_refused(entry: str) -> None:
    with pytest.raises(errors.InvalidError, match="KEY=VALUE"):
        options.pairs([entry])


def leaves(command: Any, *path: str) -> Iterator[list[str]]:
    """The words of each command."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, *path, name)
    if not children:
        yield list(path)


def test_home_is_an_option_of_every_command() -> None:
    command = typer.main.get_command(main.app)
    global_options.add_to(command)
    found = list(leaves(command))
    assert len(found) > 50
    for words in found:
        node: Any = command
        for word in words:
            node = node.commands[word]
        assert ["--home"] in [parameter.opts for parameter in node.params], words


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_home_of_the_option_names_the_server_wherever_it_stands(home: Path, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["project", "list"]
    arguments[place:place] = ["--home", str(home)]
    environment = {"FUSEML_SERVER_URL": "http://127.0.0.1:9", "FUSEML_TOKEN": "for another server", "FUSEML_CONFIG": str(home / "none")}
    assert main.run(arguments, environment) == 1
    assert "http://127.0.0.1:41000" in capsys.readouterr().err, "the server of the home was called"


def test_a_chosen_home_gives_its_url_and_token_and_a_chosen_url_comes_first(home: Path) -> None:
    chosen = dataclasses.replace(settings(home, FUSEML_SERVER_URL="http://other:1", FUSEML_TOKEN="other"), home_is_chosen=True)
    assert (chosen.server_url(), chosen.access_token()) == ("http://127.0.0.1:41000", "home-token")
    flagged = dataclasses.replace(chosen, url="http://flag:1", url_is_chosen=True)
    assert (flagged.server_url(), flagged.access_token()) == ("http://flag:1", "other")


def test_a_home_without_a_server_is_an_error_with_the_command_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["project", "list", "--home", str(tmp_path)], {}) == 1
    assert capsys.readouterr().err == f"error: no server runs with the home {tmp_path}; `fuseml up --home {tmp_path}` starts one\n"


@pytest.mark.parametrize("name", ["FUSEML_LOG_MEGABYTES", "FUSEML_LOG_FILES"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "9" * 30, "²"])
def test_the_bounds_of_logs_must_be_numbers(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["project", "list"], {name: value}) == 1
    assert capsys.readouterr().err == f"error: {name} is {value!r}; set it to a whole number from 1\n"


ORIGINAL = """\
currentcodeset: diabetes
currentproject: demo
password: changeme
timeout: 30
url: https://team.example.org
username: fuseml-demo
verbose: false
"""


def test_a_configuration_file_of_the_original_is_read_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / ".config" / "fuseml" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(ORIGINAL)
    environment = {"HOME": str(tmp_path), "FUSEML_HOME": str(tmp_path)}
    given = CliSettings.from_env(environment)
    assert (given.current_project(), given.current_codeset(), given.server_url()) == ("demo", "diabetes", "https://team.example.org")
    assert given.git_account() == ("fuseml-demo", "changeme")
    assert main.run(["config", "set", "--url", "https://other.example.org"], environment) == 0
    assert capsys.readouterr().out == f"Saved in {file}.\n"
    changed = CliSettings.from_env(environment)
    assert (changed.current_project(), changed.current_codeset(), changed.server_url()) == ("demo", "diabetes", "https://other.example.org")
    assert "verbose: false" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_is_in_the_folder_of_the_platform_unless_it_is_named(tmp_path: Path) -> None:
    assert CliSettings.from_env({"HOME": "/home/ada"}).config_file() == Path("/home/ada/.config/fuseml/config.yaml")
    assert CliSettings.from_env({"HOME": "/home/ada", "XDG_CONFIG_HOME": "/xdg"}).config_file() == Path("/xdg/fuseml/config.yaml")


def test_the_file_of_a_former_version_is_read_and_replaced(tmp_path: Path) -> None:
    script = """
import sys
from fuseml.cli import main
import os
sys.exit(main.run(sys.argv[1:], os.environ))
"""
    former = tmp_path / ".config" / "fuseml" / "config.json"
    former.parent.mkdir(parents=True)
    former.write_text('{"url": "https://team.example.org", "token": "canary"}')
    environment = {"HOME": str(tmp_path), "FUSEML_HOME": str(tmp_path)}
    assert "https://team.example.org" in commands.python(script, "config", "show", environment=environment).stdout
    commands.python(script, "config", "set", "--url", "https://team.example.org", environment=environment)
    # The token is in one file only.
    assert [path.name for path in former.parent.iterdir()] == ["config.yaml"]
    assert configuration.read(former.with_name("config.yaml")) == {"url": "https://team.example.org", "token": "canary"}


def test_both_files_count_until_the_former_one_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "fuseml"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"url": "https://team.example.org", "token": "canary"}')
    (folder / "config.yaml").write_text("currentproject: workspace\n")
    given = CliSettings.from_env({"HOME": str(tmp_path), "FUSEML_HOME": str(tmp_path)})
    assert (given.server_url(), given.access_token(), given.current_project()) == ("https://team.example.org", "canary", "workspace")
    given.configure({"codeset": "iris"})
    entries = {"url": "https://team.example.org", "token": "canary", "project": "workspace", "codeset": "iris"}
    assert configuration.read(folder / "config.yaml") == entries
    assert not (folder / "config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "variables", "configured", "token"),
    [
        (
            {"token": "flag", "token_is_chosen": True},
            {"FUSEML_SERVER_URL": "http://any:own@h"},
            {"url": "http://h", "token": "file"},
            "flag",
        ),
        ({}, {"FUSEML_SERVER_URL": "http://any:own@h", "FUSEML_TOKEN": "variable"}, {}, "own"),
        ({}, {"FUSEML_TOKEN": "variable"}, {"url": "http://any:own@h"}, "variable"),
        ({}, {}, {"url": "http://any:own@h", "token": "file"}, "own"),
        ({}, {"FUSEML_SERVER_URL": "127.0.0.1:9"}, {"url": "http://127.0.0.1:9", "token": "file"}, "file"),
        ({}, {"FUSEML_SERVER_URL": "http://other"}, {"url": "http://h", "token": "file"}, None),
    ],
)
def test_a_token_is_ranked_by_its_origin(
    arguments: dict[str, Any], variables: dict[str, str], configured: dict[str, str], token: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    configuration.write(file, configured)
    given = CliSettings.from_env({**variables, "FUSEML_CONFIG": str(file), "FUSEML_HOME": str(tmp_path)})
    assert dataclasses.replace(given, **arguments).access_token() == token


def test_another_url_forgets_the_token_of_the_former_server(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    environment = {"FUSEML_CONFIG": str(file), "FUSEML_HOME": str(tmp_path)}
    assert main.run(["config", "set", "--url", "http://a", "--token", "x"], environment) == 0
    assert main.run(["config", "set", "--url", "http://b"], environment) == 0
    assert configuration.read(file) == {"url": "http://b"}
    assert main.run(["--url", "http://c", "config", "set", "--token", "y"], environment) == 0
    assert configuration.read(file) == {"url": "http://c", "token": "y"}


@pytest.mark.parametrize("text", ["- a", "a: [", "text"])
def test_a_file_that_is_no_mapping_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(errors.InvalidError, match="is not a configuration file"):
        configuration.read(tmp_path / "config.yaml")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_configuration_file_may_be_named_anywhere_on_the_command_line(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("url: http://127.0.0.1:1\nproject: mine\n")
    environment = {"FUSEML_HOME": str(tmp_path), "FUSEML_CONFIG": str(tmp_path / "other.yaml")}
    for option in (["--config-file", str(file)], [f"--config-file={file}"]):
        words = ["config", "show"]
        words[place:place] = option
        assert main.run(words, environment) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "URL: http://127.0.0.1:1" in shown
        assert "Project: mine" in shown


def test_requests_are_traced_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with canned_api.serve() as server:
        environment = {"FUSEML_SERVER_URL": server.url, "FUSEML_TOKEN": canned_api.TOKEN, "FUSEML_CONFIG": str(tmp_path / "none")}
        for words in (["-v", "project", "list"], ["project", "list", "--verbose"]):
            assert main.run(words, environment) == 0
            first, second = capsys.readouterr().err.splitlines()
            assert first == f"> GET {server.url}/projects"
            assert second.startswith("< 200 after ")
        assert main.run(["project", "list"], {**environment, "FUSEML_VERBOSE": "true"}) == 0
        assert canned_api.TOKEN not in capsys.readouterr().err
        assert main.run(["project", "list"], {**environment, "FUSEML_VERBOSE": "0"}) == 0
        assert capsys.readouterr().err == ""
        assert main.run(["project", "list"], {**environment, "FUSEML_VERBOSE": "maybe"}) == 1
        assert capsys.readouterr().err == "error: FUSEML_VERBOSE is 'maybe'; set it to true or false\n"


def test_the_version_of_the_command_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"], {"FUSEML_SERVER_URL": "http://127.0.0.1:1"}) == 0
    assert capsys.readouterr().out == f"fuseml {importlib.metadata.version('fuseml')}\n"
