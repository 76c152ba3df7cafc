"""URLs with an account."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.client import git, server_urls
from fuseml.contents import mlflow
from fuseml.domain import errors, urls
from fuseml.githosts import gitea_api

CANARY = "canary-4711"
WITH_ACCOUNT = f"http://ada:{CANARY}@127.0.0.1:9"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (WITH_ACCOUNT, "http://127.0.0.1:9"),
        (f"fatal: unable to access 'https://{CANARY}@host/x.git/': refused", "fatal: unable to access 'https://host/x.git/': refused"),
        (f"https://a:{CANARY}@b@host/path@2?q=@", "https://host/path@2?q=@"),
        (f"two: ssh://git:{CANARY}@a and postgresql+psycopg://u:{CANARY}@b/db", "two: ssh://a and postgresql+psycopg://b/db"),
        ("https://host/a@b", "https://host/a@b"),
        ("ada@example.org", "ada@example.org"),
    ],
)
def test_text_is_shown_without_accounts(text: str, shown: str) -> None:
    assert urls.shown(text) == shown


@given(st.text(min_size=1), st.text())
def test_a_url_is_split_into_its_parts(user: str, password: str) -> None:
    try:
        account = f"{urllib.parse.quote(user, safe='')}:{urllib.parse.quote(password, safe='')}"
    except UnicodeEncodeError:
        return
    assert urls.split(f"https://{account}@host:1/path") == ("https://host:1/path", user, password)


def test_no_message_of_a_failed_connection_has_the_account_of_its_url(tmp_path: object) -> None:
    messages = []

    def fails(call: object) -> None:
        with pytest.raises(errors.FusemlError) as failure:
            call()  # type: ignore[operator]
        messages.append(f"{failure.value.message} {failure.value.details}")

    tracking = mlflow.Tracking(WITH_ACCOUNT)
    fails(lambda: tracking.ensure_webhook("n", "http://x", "secret"))
    api = gitea_api.Api(WITH_ACCOUNT, "token")
    fails(lambda: api.get("/x"))
    fails(lambda: server_urls.normal(WITH_ACCOUNT))
    fails(lambda: server_urls.normal(f"ftp://ada:{CANARY}@host"))
    fails(lambda: git.Remote(WITH_ACCOUNT, environment={"PATH": "/usr/bin:/bin"}).run("ls-remote", WITH_ACCOUNT, folder=tmp_path))  # type: ignore[arg-type]
    fails(lambda: git.clone_source(WITH_ACCOUNT, tmp_path / "x", {"PATH": "/usr/bin:/bin"}))  # type: ignore[operator]
    messages += [repr(tracking), repr(api)]
    assert [message for message in messages if CANARY in message] == []


def test_a_missing_webhook_route_does_not_show_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        status, data = 404, b""

    tracking = mlflow.Tracking("http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "_pool", type("Pool", (), {"request": lambda *_, **__: Gone})())
    with pytest.raises(errors.NotFoundError) as failure:
        tracking.call("POST", "/webhooks", {"name": "n", "secret": CANARY})
    assert CANARY not in failure.value.message
