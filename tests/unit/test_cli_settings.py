"""What the command takes from flags, variables, its configuration file and the local server's home, and in which order."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.cli import main, options
from fuseml.cli.settings import DEFAULT_URL, CliSettings
from fuseml.domain import errors
from tests import commands


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


def test_without_anything_the_default_is_asked_with_the_home_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("home-token\n")
    assert settings(tmp_path).server_url() == DEFAULT_URL
    assert settings(tmp_path).access_token() == "home-token"


def test_a_variable_wins_over_the_home(home: Path) -> None:
    chosen = settings(home, FUSEML_SERVER_URL="http://other:1", FUSEML_TOKEN="mine")
    assert (chosen.server_url(), chosen.access_token()) == ("http://other:1", "mine")


def test_the_home_token_goes_to_the_home_server_only(home: Path) -> None:
    assert settings(home, FUSEML_SERVER_URL="http://other:1").access_token() is None
    assert settings(home, FUSEML_SERVER_URL="http://127.0.0.1:41000/").access_token() == "home-token"


def test_the_configured_token_goes_to_the_configured_server_only(home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"url": "https://team.example.org", "token": "team-token"}))
    assert settings(home).server_url() == "https://team.example.org"
    assert settings(home).access_token() == "team-token"
    assert settings(home, FUSEML_SERVER_URL="http://other:1").access_token() is None
    assert settings(home, FUSEML_SERVER_URL="http://127.0.0.1:41000").access_token() == "home-token"


def test_a_damaged_configuration_is_told(home: Path) -> None:
    (home / "config.json").write_text("{")
    with pytest.raises(errors.InvalidError, match=r"config\.json"):
        settings(home).server_url()


@pytest.mark.parametrize("timeout", ["soon", "-1", "0", "inf", "nan"])
def test_a_timeout_that_is_no_number_of_seconds_is_told(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["project", "list"], {"FUSEML_HTTP_TIMEOUT": timeout}) == 1
    assert capsys.readouterr().err == f"error: FUSEML_HTTP_TIMEOUT is {timeout!r}; it must be a number of seconds\n"


def test_no_secret_is_in_a_representation(home: Path) -> None:
    chosen = settings(home, FUSEML_TOKEN="canary-1", FUSEML_PROJECT_PASSWORD="canary-2")
    assert "canary" not in repr(chosen)


def test_config_keeps_the_server_and_its_token_where_only_the_user_reads_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert main.run(["config", "set", "--url", "", "--token", ""], environment) == 0
    assert json.loads(file.read_text()) == {}


KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]*", fullmatch=True)


@given(st.dictionaries(KEYS, st.text()), st.sampled_from("=:"))
def test_configuration_entries_keep_every_value_as_it_was_given(entries: dict[str, str], sign: str) -> None:
    assert options.pairs([f"{key}{sign}{value}" for key, value in entries.items()]) == entries


@pytest.mark.parametrize("entry", ["", "KEY", "=value", ":value"])
def test_an_entry_without_a_key_is_refused(entry: str) -> None:
    with pytest.raises(errors.InvalidError, match="KEY=VALUE"):
        options.pairs([entry])
