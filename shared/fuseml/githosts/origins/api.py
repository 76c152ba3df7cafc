"""JSON over HTTP to the API of a git host. Its address is a user's input, so answers are bounded in bytes and time, and redirects are not
followed: the account reaches no other server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from fuseml.domain import errors, inert_text, urls
from fuseml.githosts import bounded

if TYPE_CHECKING:
    import urllib3

Result = TypeVar("Result")
Item = dict[str, Any]

SECONDS = 10.0
"""Of one request, from the connection to the last byte of its answer."""

# Of all pages of a list, so that a host which answers each slowly holds no request for minutes.
_LIST_SECONDS = 20.0
_MOST_BYTES = 4 << 20
_PAGE = 50
_MOST_PAGES = 20
_SHOWN = 200
_BLOCK = 1 << 16


def path(*segments: str) -> str:
    """An address with escaped segments."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class Api:
    """The API at `url`, with the headers of an account. No representation and no message shows them."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str]) -> None:
        self._name, self._url, self._headers = name, url.rstrip("/"), dict(headers)

    def __repr__(self) -> str:
        return f"Api({urls.shown(self._url)!r})"

    @property
    def has_account(self) -> bool:
        """Whether requests carry an account."""
        return any(name.lower() in ("authorization", "private-token") for name in self._headers)

    def get(self, address: str, read: Callable[[Item], Result]) -> Result:
        """What `read` finds in one object. Raises the errors of `OriginHost`, also where the object has another shape than `read` expects."""
        return self._shaped(address, read, self._call("GET", address))

    def pages(self, address: str, read: Callable[[Item], Result], size: str = "per_page") -> Iterator[Result]:
        """What `read` finds in each item of a list; `size` is the host's name for the length of a page. Raises as `get` does."""
        deadline = time.monotonic() + _LIST_SECONDS
        for page in range(1, _MOST_PAGES + 1):
            if time.monotonic() >= deadline:
                raise errors.TemporaryError(f"{self._shown} took longer than {_LIST_SECONDS:g} seconds to list {address}")
            items = self._call("GET", f"{address}?{urlencode({'page': page, size: _PAGE})}")
            if not isinstance(items, list):
                raise self._unlike(address)
            for item in items:
                yield self._shaped(address, read, item)
            # A host may return shorter pages than it was asked for.
            if not items:
                return

    def send(self, method: str, address: str, body: Mapping[str, object] | None = None) -> None:
        """Create, change or delete. Raises InvalidError for a body that the host refuses, and the errors of `OriginHost`."""
        self._call(method, address, body)

    def _shaped(self, address: str, read: Callable[[Item], Result], item: Any) -> Result:
        try:
            return read(item)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._unlike(address) from None

    def _call(self, method: str, address: str, body: Mapping[str, object] | None = None) -> Any:
        status, headers, content = self._exchange(method, address, body)
        if status >= 300:
            raise self._error(status, headers, content, f"{method} {address.partition('?')[0]}")
        try:
            return json.loads(content) if content.strip() else {}
        except (ValueError, RecursionError):
            raise self._unlike(address) from None

    def _exchange(self, method: str, address: str, body: Mapping[str, object] | None) -> tuple[int, Mapping[str, str], bytes]:
        import urllib3.exceptions

        deadline = time.monotonic() + SECONDS
        headers = {"Accept": "application/json", "User-Agent": "fuseml", **self._headers}
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            with bounded.connections(SECONDS, deadline) as pool:
                answer = pool.request(method, self._url + address, body=content, headers=headers, redirect=False, preload_content=False)
                try:
                    return answer.status, {name.lower(): value for name, value in answer.headers.items()}, self._read(answer, deadline)
                finally:
                    answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise errors.TemporaryError(f"{self._shown} does not answer ({type(error).__name__})") from None

    def _read(self, answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        blocks, left = list[bytes](), _MOST_BYTES
        while block := answer.read1(min(_BLOCK, left + 1)):
            blocks.append(block)
            left -= len(block)
            if left < 0:
                raise errors.PermanentError(f"{self._shown} answers with more than {_MOST_BYTES} bytes")
            if time.monotonic() >= deadline:
                raise errors.TemporaryError(f"{self._shown} took longer than {SECONDS:g} seconds to answer")
        return b"".join(blocks)

    @property
    def _shown(self) -> str:
        return f"{self._name} at {urls.shown(self._url)}"

    def _unlike(self, address: str) -> errors.PermanentError:
        return errors.PermanentError(f"the answer of {self._shown} to {address.partition('?')[0]} is not that of {self._name}")

    def _error(self, status: int, headers: Mapping[str, str], content: bytes, request: str) -> errors.FusemlError:
        detail = _detail(content)
        if status < 400:
            return errors.PermanentError(f"{self._shown} redirects {request}; redirects are not followed, so register the other address")
        if status == 401:
            return errors.PermanentError(f"{self._shown} rejects the token; replace it with `fuseml extension credentials update`")
        # GitHub answers 403 beyond the rate, too.
        is_limited = status == 403 and (headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers)
        if status == 429 or is_limited or status >= 500:
            return errors.TemporaryError(f"{self._shown} answers {request} with status {status}{detail}")
        if status == 404:
            return errors.NotFoundError(f"{self._shown} has no {request.partition(' ')[2]}, or not for this account{detail}")
        if status == 403:
            return errors.PermanentError(f"{self._shown} refuses {request} to the account: the token lacks the right{detail}")
        if status in (400, 409, 422):
            return errors.InvalidError(f"{self._shown} refuses {request}{detail}")
        return errors.PermanentError(f"{self._shown} answers {request} with status {status}{detail}")


def _detail(content: bytes) -> str:
    try:
        found = json.loads(content[:_BLOCK])
        shown = line(found.get("message") or found.get("error") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f": {shown}" if shown else ""


def line(value: object) -> str:
    """A value of the host as a bounded line that a message may hold."""
    return " ".join(inert_text.visible(str(value).encode("utf-8", "replace").decode()).split())[:_SHOWN]
