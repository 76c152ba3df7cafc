"""The sign-in of browsers to the UI of the embedded MLflow: an API token once, then a cookie for this server's `/mlflow` only.

The cookie is signed, ends after a day, and ends with the token that it was made with. Cookies do not know ports, and other servers of this
machine are the same site: requests with a cookie therefore need proof that a page of this very origin sent them.
"""

from __future__ import annotations

import html
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping

from fuseml.domain import errors
from fuseml.runtime import auth, secrets

COOKIE = "fuseml_session"
_PURPOSE = "session"
_SECONDS = 24 * 3600
_SAFE = ("GET", "HEAD", "OPTIONS")
_VALUE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})\.([0-9a-f]{64})")


class Sessions:
    """Sessions of administrators. `prefix` is the path that they open."""

    def __init__(self, tokens: auth.Tokens, keyring: secrets.Keyring, prefix: str, now: Callable[[], float] = time.time) -> None:
        self._tokens, self._keyring, self._prefix, self._now = tokens, keyring, prefix, now

    def begin(self, token: str) -> str:
        """The Set-Cookie header of a session of the token's owner. Raises UnauthenticatedError, ForbiddenError."""
        if self._tokens.bearer(token).role != "admin":
            raise errors.ForbiddenError("this is for people: sign in with an API token")
        text = f"{int(self._now()) + _SECONDS}.{auth.digest_of(token)}"
        return self._cookie(f"{text}.{self._keyring.sign(_PURPOSE, text)}", _SECONDS)

    def end(self) -> str:
        """The Set-Cookie header that ends the session in the browser."""
        return self._cookie("", 0)

    def is_open(self, environ: Mapping[str, object]) -> bool:
        """Whether the request belongs to a session, and a page of this origin or the user sent it."""
        cookies = [part.strip().partition("=") for part in str(environ.get("HTTP_COOKIE", "")).split(";")]
        return any(name == COOKIE and self._is_valid(value) for name, _, value in cookies) and is_own(environ)

    def _is_valid(self, value: str) -> bool:
        match = _VALUE.fullmatch(value)
        if match is None or not self._keyring.has_signed(_PURPOSE, f"{match[1]}.{match[2]}", match[3]):
            return False
        return int(match[1]) > self._now() and self._tokens.knows(match[2])

    def _cookie(self, value: str, seconds: int) -> str:
        return f"{COOKIE}={value}; Path={self._prefix}; Max-Age={seconds}; HttpOnly; SameSite=Strict"


def is_foreign(environ: Mapping[str, object]) -> bool:
    """Whether a browser says that a page of another origin has sent the request. What is no browser says nothing."""
    site, origin = str(environ.get("HTTP_SEC_FETCH_SITE", "")), str(environ.get("HTTP_ORIGIN", ""))
    own = urllib.parse.urlsplit(origin).netloc == str(environ.get("HTTP_HOST", "")) if origin else True
    return not own or site not in ("", "same-origin", "none")


def is_own(environ: Mapping[str, object]) -> bool:
    """Whether a browser says that this origin or the user has sent the request; one that says nothing may only read."""
    says = any(environ.get(name) for name in ("HTTP_SEC_FETCH_SITE", "HTTP_ORIGIN"))
    return not is_foreign(environ) and (says or environ.get("REQUEST_METHOD") in _SAFE)


def page(prefix: str, problem: str = "") -> bytes:
    """The page with the form. `problem` is shown above it."""
    shown = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>FuseML: sign in to MLflow</title>
<meta name="viewport" content="width=device-width"><style>body{{font:1rem system-ui;max-width:28rem;margin:4rem auto;padding:0 1rem}}
input,button{{font:inherit;padding:.4rem;box-sizing:border-box;width:100%;margin:.4rem 0}}</style>
<h1>Sign in to MLflow</h1>{shown}
<form method="post" action="{html.escape(prefix)}/sign-in"><label>API token of this FuseML server
<input name="token" type="password" autocomplete="current-password" required autofocus></label><button>Sign in</button></form>
<p>A server started by <code>fuseml up</code> keeps its token in the file <code>token</code> of its home.</p></html>
""".encode()
