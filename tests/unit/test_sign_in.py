"""Sessions of browsers: they end with their time and their token, and only this origin's pages and the user may use them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fuseml.domain import errors
from fuseml.embedded import access, sign_in
from fuseml.runtime import auth, secrets

NOW = 1_800_000_000.0
KEYRING = secrets.Keyring([secrets.new_key()])
TOKENS = auth.Tokens({auth.digest_of("admin"): auth.Caller("admin", "admin")})


def sessions(now: float = NOW, tokens: auth.Tokens = TOKENS, keyring: secrets.Keyring = KEYRING) -> sign_in.Sessions:
    return sign_in.Sessions(tokens, keyring, "/mlflow", lambda: now)


def environ(cookie: str, **more: str) -> Mapping[str, object]:
    return {"REQUEST_METHOD": "GET", "HTTP_HOST": "127.0.0.1:8000", "HTTP_COOKIE": f"a=b; {cookie.split(';', maxsplit=1)[0]}; c", **more}


COOKIE = sessions().begin("admin")


def test_a_session_opens_and_ends_after_its_time() -> None:
    assert sessions().is_open(environ(COOKIE))
    assert sessions(NOW + 24 * 3600 - 1).is_open(environ(COOKIE))
    assert not sessions(NOW + 24 * 3600).is_open(environ(COOKIE))
    assert not sessions().is_open(environ(sessions().end()))
    assert not sessions().is_open({"REQUEST_METHOD": "GET"})


def test_a_session_ends_with_its_token_and_needs_the_keys() -> None:
    other = auth.Tokens({auth.digest_of("other"): auth.Caller("admin", "admin")})
    assert not sessions(tokens=other).is_open(environ(COOKIE))
    assert not sessions(keyring=secrets.Keyring([secrets.new_key()])).is_open(environ(COOKIE))


@pytest.mark.parametrize("position", range(0, len(COOKIE.split(";")[0]), 7))
def test_a_changed_cookie_opens_nothing(position: int) -> None:
    value = COOKIE.split(";")[0]
    changed = value[:position] + ("1" if value[position] != "1" else "2") + value[position + 1 :]
    assert not sessions().is_open(environ(changed))


@pytest.mark.parametrize("token", ["", "wrong", "ä", "\udc80", "fuseml-process.x"])
def test_only_people_sign_in(token: str) -> None:
    with pytest.raises(errors.UnauthenticatedError):
        sessions().begin(token)
    step = auth.StepCaller("demo", None, "w", "w-1", "s", ("tracking",))
    with pytest.raises(errors.ForbiddenError, match="for people"):
        sessions(tokens=TOKENS.accepting(lambda _: step)).begin(f"{auth.STEP_PREFIX}x")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"REQUEST_METHOD": "POST"}, False),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ({"HTTP_SEC_FETCH_SITE": "none"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, False),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ({"HTTP_SEC_FETCH_SITE": "anything"}, False),
        ({"HTTP_ORIGIN": "http://127.0.0.1:8000"}, True),
        ({"HTTP_ORIGIN": "http://127.0.0.1:8000", "REQUEST_METHOD": "POST"}, True),
        ({"HTTP_ORIGIN": "http://127.0.0.1:8000", "REQUEST_METHOD": "DELETE", "HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ({"HTTP_ORIGIN": "http://127.0.0.1:9999"}, False),
        ({"HTTP_ORIGIN": "http://127.0.0.1:9999", "HTTP_SEC_FETCH_SITE": "same-origin"}, False),
        ({"HTTP_ORIGIN": "null"}, False),
        ({"HTTP_ORIGIN": "http://ä.example"}, False),
    ],
)
def test_a_session_is_for_pages_of_its_own_origin(headers: dict[str, str], allowed: bool) -> None:
    assert sessions().is_open(environ(COOKIE, **headers)) is allowed


def test_the_page_shows_text_only() -> None:
    page = sign_in.page("/mlflow", '<script>alert(1)</script>"')
    assert b"<script>" not in page
    assert b"&lt;script&gt;" in page


def test_a_process_token_ends_with_its_holder() -> None:
    tokens = access.ProcessTokens()
    one, other = tokens.grant(), tokens.grant()
    tokens.revoke(one)
    assert [tokens.accept(token) for token in (one, other, "", "x", other[:-1], other + "x")] == [False, True, False, False, False, False]
