"""Calls of agents over HTTP: bounded in bytes and time, without redirects, with the errors of FuseML."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fuseml.domain import errors, urls
from fuseml.runtime import answers

if TYPE_CHECKING:
    import urllib3

TOKEN = "FUSEML_AGENT_TOKEN"  # noqa: S105 - the name of a variable
"""The variable of a record's credentials that holds the bearer token of its agent."""

LARGEST = 8 << 20
"""Bytes of an answer, unless a call allows more."""

_CONNECT, _ANSWER = 5.0, 60.0
_BLOCK = 1 << 18
_LONGEST = 500
_KINDS: Mapping[str, type[errors.FusemlError]] = {
    kind.name: kind
    for kind in (
        errors.TemporaryError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.InvalidError,
        errors.TooLargeError,
        errors.UnauthenticatedError,
        errors.ForbiddenError,
        errors.PermanentError,
    )
}


class Agent:
    """The agent at `url`; `subject` names its service in messages. The token goes to this address only."""

    def __init__(self, url: str, token: str, subject: str) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._subject = subject

    def __repr__(self) -> str:
        return f"Agent({urls.shown(self.url)!r})"

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, most: int = LARGEST, seconds: float = _ANSWER
    ) -> dict[str, Any]:
        """The JSON object that the agent answers; an empty one for an answer without a body.

        Raises the error that the agent names, TemporaryError where it does not answer, and PermanentError for nonsense.
        """
        data = None if body is None else json.dumps(body).encode()
        answer = self._request(method, path, lambda: data, {"Content-Type": "application/json"} if data is not None else {}, seconds)
        found = self._read(answer, most, seconds)
        self._check(answer, found)
        return answers.parsed(found, self._named) if found else {}

    def text(self, path: str, most: int = LARGEST) -> bytes:
        """The bytes that the agent answers. Raises as `call`."""
        answer = self._request("GET", path, lambda: None, {}, _ANSWER)
        found = self._read(answer, most, _ANSWER)
        self._check(answer, found)
        return found

    def stream(self, path: str) -> Iterator[bytes]:
        """The bytes of an answer of any size, in blocks. Raises as `call`, and TemporaryError for a connection that ends early."""
        import urllib3.exceptions

        answer = self._request("GET", path, lambda: None, {}, _ANSWER)
        with contextlib.closing(answer):
            if answer.status != 200:
                self._check(answer, self._read(answer, LARGEST, _ANSWER))
            try:
                while block := answer.read1(_BLOCK):
                    yield block
            except urllib3.exceptions.HTTPError as error:
                raise self._silent(error) from None

    def send(self, path: str, blocks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Put `size` bytes; each call of `blocks` gives the same ones. Raises as `call`, and the errors of the blocks."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        answer = self._request("PUT", path, blocks if size else bytes, headers, _ANSWER)
        self._check(answer, self._read(answer, LARGEST, _ANSWER))

    @functools.cached_property
    def _pool(self) -> urllib3.PoolManager:
        import urllib3

        return urllib3.PoolManager(retries=False)

    @property
    def _named(self) -> str:
        return f"the agent {self._subject!r} at {urls.shown(self.url)}"

    def _request(
        self, method: str, path: str, body: Callable[[], bytes | Iterator[bytes] | None], headers: Mapping[str, str], seconds: float
    ) -> urllib3.BaseHTTPResponse:
        import urllib3
        import urllib3.exceptions

        sent = {**headers, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        timeout = urllib3.Timeout(connect=_CONNECT, read=seconds)
        # The agent may close an idle connection just now. Every operation may be repeated.
        for is_last in (False, True):
            try:
                return self._pool.request(
                    method, self.url + path, body=body(), headers=sent, timeout=timeout, redirect=False, preload_content=False
                )
            except urllib3.exceptions.LocationValueError:
                raise errors.PermanentError(f"{urls.shown(self.url)} is no http(s) URL; correct the record of {self._subject!r}") from None
            except urllib3.exceptions.HTTPError as error:
                if is_last or not isinstance(error, urllib3.exceptions.ProtocolError):
                    raise self._silent(error) from None
        raise AssertionError("the last attempt returns or raises")

    def _read(self, answer: urllib3.BaseHTTPResponse, most: int, seconds: float) -> bytes:
        import urllib3.exceptions

        try:
            return answers.read(answer, most, seconds, self._named)
        except urllib3.exceptions.HTTPError as error:
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> errors.TemporaryError:
        return errors.TemporaryError(f"{self._named} does not answer ({type(error).__name__})")

    def _check(self, answer: urllib3.BaseHTTPResponse, body: bytes) -> None:
        """Raises the error that an answer stands for."""
        if answer.status in (200, 201, 204):
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        document = document if isinstance(document, dict) else {}
        name, message = document.get("name"), " ".join(str(document.get("message") or "").split())
        # Text from outside: no control characters, and not endless.
        shown = "".join(character if character.isprintable() else "?" for character in message)[:_LONGEST]
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind in (errors.UnauthenticatedError, errors.ForbiddenError) or (kind is None and answer.status in (401, 403)):
            raise errors.PermanentError(f"{self._named} refuses the token: set {TOKEN} in the credentials of its record ({answer.status})")
        if kind is not None and shown:
            raise kind(shown)
        if answer.status == 429 or answer.status >= 500:
            raise errors.TemporaryError(f"{self._named} answered {answer.status}")
        # A 404 without the body of an agent means another server, not a missing version.
        raise errors.PermanentError(f"{self._named} answered {answer.status}, as no agent does; is its URL right?")
