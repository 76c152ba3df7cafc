"""Client of Gitea's REST API, version 1: single requests, errors as FusemlError, paged lists.

The token is sent to the configured address only, so redirects are not followed. It appears in no message and no representation.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from fuseml.domain import errors, urls

if TYPE_CHECKING:
    import urllib3

TIMEOUT = 10.0
"""Seconds for one response."""

_API = "/api/v1"
_PAGE = 50
_MOST_PAGES = 1000
# One for each thread of a function: a further connection would be closed after one request.
_CONNECTIONS = 10


def path(*segments: str) -> str:
    """An address below `/api/v1` with escaped segments."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class Api:
    """The API of the Gitea at `url`, with an administrator's `token`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token

    def __repr__(self) -> str:
        return f"Api({urls.shown(self.url)!r})"

    @functools.cached_property
    def pool(self) -> urllib3.PoolManager:
        """The connection pool, created at the first request."""
        import urllib3

        return urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS, timeout=urllib3.Timeout(TIMEOUT))

    def get(self, address: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """One object. Raises NotFoundError, TemporaryError, PermanentError."""
        resource: dict[str, Any] = self._call("GET", address + (f"?{urlencode(query)}" if query else ""))
        return resource

    def exists(self, address: str) -> bool:
        """Whether the address exists."""
        try:
            self.get(address)
        except errors.NotFoundError:
            return False
        return True

    def pages(self, address: str) -> Iterator[dict[str, Any]]:
        """The items of a list. Raises the errors of `get`."""
        for page in range(1, _MOST_PAGES):
            # The server may return fewer items than the limit: only an empty page is the end.
            items = self._call("GET", f"{address}?{urlencode({'page': page, 'limit': _PAGE})}")
            yield from items
            if not items:
                return

    def listed(self, address: str, query: Mapping[str, object]) -> tuple[list[dict[str, Any]], int]:
        """One page of a list, and the number of all its items. Raises the errors of `get`."""
        full = f"{_API}{address}?{urlencode(query)}"
        response = self._request("GET", full, None, {"Authorization": f"token {self._token}"})
        items: list[dict[str, Any]] = self._read(response, "GET", full) or []
        total = response.headers.get("X-Total-Count", "")
        return items, int(total) if total.isdigit() else len(items)

    def send(self, method: str, address: str, body: Mapping[str, object] | None = None) -> None:
        """Create, change or delete an object. Raises ConflictError if it exists, InvalidError if Gitea rejects it, and the errors of `get`."""
        self._call(method, address, body)

    def refs(self, repository: str) -> dict[str, str]:
        """Ref -> object id of `project/codeset`, as git advertises them; `<tag>^{}` is the commit of an annotated tag. Raises the errors of
        `get`.
        """
        address = f"/{repository}.git/info/refs?service=git-upload-pack"
        # In git's protocol, the token is the password, with any user name.
        response = self._request("GET", address, None, _basic("token", self._token))
        if response.status >= 300:
            self._raise_for_status(response, "GET", address)
        try:
            return dict(_parse_refs(response.data))
        except ValueError:
            raise errors.PermanentError(f"the server at {urls.shown(self.url)} is not a git host; check FUSEML_GIT_URL") from None

    def may_push(self, address: str, username: str, password: str) -> bool:
        """Whether a user with this name and password exists and may push to the repository at `address`."""
        response = self._request("GET", _API + address, None, _basic(username, password))
        if response.status in (401, 403, 404):
            return False
        return bool(self._read(response, "GET", address)["permissions"]["push"])

    def _call(self, method: str, address: str, body: Mapping[str, object] | None = None) -> Any:
        response = self._request(method, _API + address, body, {"Authorization": f"token {self._token}"})
        return self._read(response, method, address)

    def _request(
        self, method: str, address: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        import urllib3.exceptions

        try:
            return self.pool.request(method, self.url + address, json=dict(body) if body else None, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the git host at {urls.shown(self.url)} does not respond ({type(error).__name__})") from None

    def _read(self, response: urllib3.BaseHTTPResponse, method: str, address: str) -> Any:
        if response.status >= 300:
            self._raise_for_status(response, method, address)
        try:
            return json.loads(response.data) if response.data.strip() else {}
        except ValueError:
            raise errors.PermanentError(f"the server at {urls.shown(self.url)} is not Gitea; check FUSEML_GIT_URL") from None

    def _raise_for_status(self, response: urllib3.BaseHTTPResponse, method: str, address: str) -> NoReturn:
        where = address.partition("?")[0]
        request, detail = f"{method} {where}", _detail(response.data)
        if response.status == 404:
            raise errors.NotFoundError(f"the git host at {urls.shown(self.url)} has no {where}")
        if response.status == 401:
            raise errors.PermanentError(f"the git host at {urls.shown(self.url)} rejects the token; set FUSEML_GIT_TOKEN to a valid one")
        if response.status == 403:
            raise errors.PermanentError(
                f"the git host rejected {request}: FUSEML_GIT_TOKEN must be the token of an administrator, with the scopes "
                f"write:admin, write:organization, write:repository and read:user{detail}"
            )
        if response.status == 409:
            raise errors.ConflictError(f"the git host rejected {request}{detail}")
        if response.status == 422:
            raise errors.InvalidError(f"the git host rejected {request}{detail}")
        if response.status >= 500 or response.status == 429:
            raise errors.TemporaryError(f"the git host returned {response.status} for {request}{detail}")
        raise errors.PermanentError(f"the git host returned {response.status} for {request}{detail}; check FUSEML_GIT_URL")


def _basic(username: str, password: str) -> dict[str, str]:
    import urllib3

    return urllib3.make_headers(basic_auth=f"{username}:{password}")


def _parse_refs(body: bytes) -> Iterator[tuple[str, str]]:
    """Ref -> object id, from git's packets: four digits of length, then `<id> <ref>`; in the first packet, NUL and capabilities follow."""
    position = 0
    while position < len(body):
        length = int(body[position : position + 4], 16)
        packet, position = body[position + 4 : position + length], position + max(length, 4)
        object_id, _, ref = packet.partition(b"\0")[0].rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        if ref.startswith("refs/"):
            yield ref, object_id


def _detail(body: bytes) -> str:
    try:
        text = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {text}" if text else ""
