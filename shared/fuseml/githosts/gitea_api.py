"""Gitea's REST API, version 1: one request at a time, errors in our words, lists page by page.

The token is sent to the configured address only and appears in no message and no representation. Redirects are not followed: they would
lead elsewhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from fuseml.domain import errors

if TYPE_CHECKING:
    import urllib3

TIMEOUT = 10.0
"""Seconds that an answer may take."""

_API = "/api/v1"
_PAGE = 50
_MOST_PAGES = 1000
# As many as a function has threads that ask: a connection beyond that would be made for one question and thrown away.
_CONNECTIONS = 10


def path(*segments: str) -> str:
    """An address below `/api/v1`, every segment escaped."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class Api:
    """The API of the Gitea at `url`, used with an administrator's `token`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token

    def __repr__(self) -> str:
        return f"Api({self.url!r})"

    @functools.cached_property
    def pool(self) -> urllib3.PoolManager:
        """The connections, made with the first question."""
        import urllib3

        return urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS, timeout=urllib3.Timeout(TIMEOUT))

    def get(self, address: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """One thing. Raises NotFoundError, TemporaryError, PermanentError."""
        found: dict[str, Any] = self._call("GET", address + (f"?{urlencode(query)}" if query else ""))
        return found

    def exists(self, address: str) -> bool:
        """Whether there is something at the address."""
        try:
            self.get(address)
        except errors.NotFoundError:
            return False
        return True

    def pages(self, address: str) -> Iterator[dict[str, Any]]:
        """The items of a list. Raises as `get` does."""
        for page in range(1, _MOST_PAGES):
            # The server may give less than was asked for: only an empty page is the end.
            items = self._call("GET", f"{address}?{urlencode({'page': page, 'limit': _PAGE})}")
            yield from items
            if not items:
                return

    def send(self, method: str, address: str, body: Mapping[str, object] | None = None) -> None:
        """Make, change or delete. Raises ConflictError for what is there already, InvalidError for what is refused, and as `get` does."""
        self._call(method, address, body)

    def refs(self, repository: str) -> dict[str, str]:
        """Every ref that git advertises for `project/codeset`, and as `<tag>^{}` what an annotated tag stands for. Raises as `get` does."""
        address = f"/{repository}.git/info/refs?service=git-upload-pack"
        # For git, a token is the password of any user name.
        answer = self._request("GET", address, None, _basic("token", self._token))
        if answer.status >= 300:
            self._refuse(answer, "GET", address)
        try:
            return dict(_advertised(answer.data))
        except ValueError:
            raise errors.PermanentError(f"what answers at {self.url} is not a git host; check FUSEML_GIT_URL") from None

    def may_push(self, address: str, username: str, password: str) -> bool:
        """Whether this user, not ours, exists with this password and may push to the repository at `address`."""
        answer = self._request("GET", _API + address, None, _basic(username, password))
        if answer.status in (401, 403, 404):
            return False
        return bool(self._read(answer, "GET", address)["permissions"]["push"])

    def _call(self, method: str, address: str, body: Mapping[str, object] | None = None) -> Any:
        answer = self._request(method, _API + address, body, {"Authorization": f"token {self._token}"})
        return self._read(answer, method, address)

    def _request(
        self, method: str, address: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        import urllib3.exceptions

        try:
            return self.pool.request(method, self.url + address, json=dict(body) if body else None, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the git host at {self.url} does not answer ({type(error).__name__})") from None

    def _read(self, answer: urllib3.BaseHTTPResponse, method: str, address: str) -> Any:
        if answer.status >= 300:
            self._refuse(answer, method, address)
        try:
            return json.loads(answer.data) if answer.data.strip() else {}
        except ValueError:
            raise errors.PermanentError(f"what answers at {self.url} is not Gitea; check FUSEML_GIT_URL") from None

    def _refuse(self, answer: urllib3.BaseHTTPResponse, method: str, address: str) -> NoReturn:
        where = address.partition("?")[0]
        asked, said = f"{method} {where}", _message(answer.data)
        if answer.status == 404:
            raise errors.NotFoundError(f"the git host at {self.url} has no {where}")
        if answer.status == 401:
            raise errors.PermanentError(f"the git host at {self.url} does not know the token; set FUSEML_GIT_TOKEN to a valid one")
        if answer.status == 403:
            raise errors.PermanentError(
                f"the git host refused {asked}: the token of FUSEML_GIT_TOKEN must be an administrator's, with the scopes "
                f"write:admin, write:organization, write:repository and read:user{said}"
            )
        if answer.status == 409:
            raise errors.ConflictError(f"the git host refused {asked}{said}")
        if answer.status == 422:
            raise errors.InvalidError(f"the git host refused {asked}{said}")
        if answer.status >= 500 or answer.status == 429:
            raise errors.TemporaryError(f"the git host answered {answer.status} to {asked}{said}")
        raise errors.PermanentError(f"the git host answered {answer.status} to {asked}{said}; is FUSEML_GIT_URL right?")


def _basic(username: str, password: str) -> dict[str, str]:
    import urllib3

    return urllib3.make_headers(basic_auth=f"{username}:{password}")


def _advertised(body: bytes) -> Iterator[tuple[str, str]]:
    """Ref -> object id, out of git's packets: four digits of length, then `<id> <ref>`, of the first one NUL and capabilities."""
    position = 0
    while position < len(body):
        length = int(body[position : position + 4], 16)
        packet, position = body[position + 4 : position + length], position + max(length, 4)
        object_id, _, ref = packet.partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        if ref.startswith("refs/"):
            yield ref, object_id


def _message(body: bytes) -> str:
    try:
        text = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {text}" if text else ""
