"""Calls of the REST APIs of stores: bounded answers, and refusals as FuseML's errors with the server's reason, inert and short."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from fuseml.domain import errors, urls
from fuseml.runtime import answers

_CONNECT, _ANSWER = 5.0, 60.0
_LARGEST = 8 << 20
_BLOCK = 1 << 18
_SHOWN = 200


class Api:
    """The API of `product` at `url`, called with these headers; `keys` are those of the record that hold the account.

    Each call raises TemporaryError without a decisive answer, NotFoundError, and PermanentError for a refusal. `at` names the server in messages.
    """

    def __init__(self, product: str, url: str, headers: Mapping[str, str], keys: str) -> None:
        import urllib3

        self.at = f"{product} at {urls.shown(url)}"
        self._url, self._headers, self._keys = url.rstrip("/"), dict(headers), keys
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=_CONNECT, read=_ANSWER))

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at a path."""
        return answers.parsed(self.done(self.send("GET", path, query), path), self.at)

    def call(self, method: str, path: str, document: Mapping[str, Any], *, taken: bool = False, missing: bool = False) -> dict[str, Any]:
        """The JSON object that a call with a document answers, empty for none; with `taken` (409) or `missing` (404) such a refusal counts as none."""
        answer = self.send(method, path, body=json.dumps(document).encode(), headers={"Content-Type": "application/json"})
        if (taken and answer.status == 409) or (missing and answer.status == 404):
            answer.close()
            return {}
        body = self.done(answer, path)
        return answers.parsed(body, self.at) if body[:1] == b"{" else {}

    def blocks(self, path: str, query: Mapping[str, str], subject: str) -> Iterator[bytes]:
        """The bytes of an answer."""
        answer = self.send("GET", path, query)
        if answer.status != 200:
            self.refuse(answer, subject)
        yield from self.body(answer)

    def body(self, answer: Any) -> Iterator[bytes]:
        """The bytes of an answer, in blocks."""
        try:
            with self._reached():
                while block := answer.read(_BLOCK):
                    yield block
        finally:
            answer.close()

    def send(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer, of which nothing is read yet. Redirects are not followed."""
        url = f"{self._url}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with self._reached():
            return self._pool.request(
                method, url, body=body, headers={**self._headers, **(headers or {})}, redirect=False, preload_content=False
            )

    def done(self, answer: Any, subject: str, *, missing: bool = False) -> bytes:
        """The body of an answer; `missing`: that nothing is there is no refusal."""
        if answer.status >= 300 and not (missing and answer.status == 404):
            self.refuse(answer, subject)
        with self._reached():
            return answers.read(answer, _LARGEST, _ANSWER, self.at)

    def refuse(self, answer: Any, subject: str) -> None:
        """Raise the error of an answer."""
        status = answer.status
        with self._reached():
            body = answers.read(answer, _LARGEST, _ANSWER, self.at)
        said = _said(body)
        reason = f": {' '.join(said.split())[:_SHOWN]!a}" if said else ""
        if status == 404:
            raise errors.NotFoundError(f"{self.at} has no {subject[:_SHOWN]}{reason}")
        if status == 401:
            raise errors.PermanentError(f"{self.at} does not accept the account: check {self._keys}")
        if status == 403:
            raise errors.PermanentError(f"the account may not do this at {self.at}{reason}")
        if status in (409, 420, 429) or status >= 500:
            raise errors.TemporaryError(f"{self.at} cannot do it now ({status}){reason}")
        raise errors.PermanentError(f"{self.at} refuses the call for {subject[:_SHOWN]} ({status}){reason}")

    @contextlib.contextmanager
    def form(self, path: str) -> Iterator[None]:
        """Raise PermanentError where an answer has another form than the documented one."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._unknown(path) from None

    def _unknown(self, path: str) -> errors.PermanentError:
        return errors.PermanentError(f"the answer of {self.at} for {path[:100]!r} is not the one of its documentation; check the URL")

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        import urllib3.exceptions

        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"{self.at} does not answer ({type(error).__name__})") from None


def quoted(text: str) -> str:
    """A text as one part of a path."""
    return urllib.parse.quote(text, safe="")


def _said(body: bytes) -> str:
    """The reason in a refusal, under the names that such servers use."""
    try:
        document = json.loads(body)
        return str(next(document[name] for name in ("message", "detail", "error") if name in document))
    except (ValueError, TypeError, StopIteration, RecursionError):
        return ""
