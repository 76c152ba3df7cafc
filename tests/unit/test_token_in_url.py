"""The token as the password of a server's URL: the command takes it from there, and the server accepts it as one of any user."""

from __future__ import annotations

import base64
import json
import pathlib

import pytest

from fuseml.cli.settings import CliSettings
from fuseml.client.transport import Transport
from fuseml.domain import errors
from fuseml.runtime import auth

TOKEN = "token:canary/+é"
IN_URL = "token%3Acanary%2F%2B%C3%A9"
TOKENS = auth.Tokens({auth.digest_of(TOKEN): auth.Caller("ada", "admin")})


def basic(account: str) -> str:
    return f"Basic {base64.b64encode(account.encode()).decode()}"


@pytest.mark.parametrize("user", ["any", "", "ada@example.com"])
def test_the_server_accepts_a_token_as_the_password_of_any_user(user: str) -> None:
    assert TOKENS.caller(basic(f"{user}:{TOKEN}")).name == "ada"
    assert TOKENS.caller(f"bearer {TOKEN}").name == "ada"


@pytest.mark.parametrize(
    "given", [basic("any:wrong"), basic("any:"), basic(TOKEN), "Basic", "Basic ???", "Basic /w==", f"Digest {TOKEN}", None]
)
def test_another_password_is_refused(given: str | None) -> None:
    with pytest.raises(errors.UnauthenticatedError):
        TOKENS.caller(given)


def test_a_wrong_password_is_refused_where_no_token_is_needed() -> None:
    anonymous = auth.Tokens({auth.digest_of(TOKEN): auth.Caller("ada", "admin")}, anonymous=True)
    assert anonymous.caller(basic(f"any:{TOKEN}")).name == "ada"
    assert anonymous.caller(None).name == "anonymous"
    with pytest.raises(errors.UnauthenticatedError):
        anonymous.caller(basic("any:wrong"))


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_command_takes_the_token_from_the_url_and_shows_the_url_without_it(tmp_path: pathlib.Path, place: str) -> None:
    config = tmp_path / "config.json"
    url = f"http://any:{IN_URL}@127.0.0.1:9"
    config.write_text(json.dumps({"url": url, "token": "of the file"} if place == "file" else {}))
    variables = {"FUSEML_CONFIG": str(config), "FUSEML_HOME": str(tmp_path), "FUSEML_TOKEN": "another" if place == "environment" else ""}
    settings = CliSettings.from_env({**variables, **({"FUSEML_SERVER_URL": url} if place == "environment" else {})})
    assert (settings.server_url(), settings.access_token()) == ("http://127.0.0.1:9", TOKEN)


def test_a_user_without_a_password_is_refused(tmp_path: pathlib.Path) -> None:
    settings = CliSettings.from_env({"FUSEML_CONFIG": str(tmp_path / "none"), "FUSEML_SERVER_URL": f"http://{IN_URL}@127.0.0.1:9"})
    with pytest.raises(errors.InvalidError, match="has a user without a password") as caught:
        settings.server_url()
    assert "canary" not in str(caught.value)
    with pytest.raises(errors.InvalidError) as caught:
        Transport(f"http://{IN_URL}@127.0.0.1:9", None, 1)
    assert "canary" not in str(caught.value)


def test_the_client_takes_the_token_from_the_url() -> None:
    transport = Transport("http://any:secret@127.0.0.1:9/", None, 1)
    assert (transport.url, "secret" in repr(transport)) == ("http://127.0.0.1:9", False)
