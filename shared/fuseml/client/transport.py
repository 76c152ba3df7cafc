"""HTTP of the API: addresses of functions, bearer token, error bodies, paging.

Only the configured server receives the token: redirects are not followed, and of a `Link` to the next page only the query is used.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlencode, urlsplit

from fuseml.client import refusals, server_urls
from fuseml.domain import errors, urls
from fuseml.runtime import catalog
from fuseml.version import __version__

if TYPE_CHECKING:
    import urllib3

Query = Mapping[str, str | int | Sequence[str] | None]
Document = str | Mapping[str, object]
"""A request body. A text (YAML or JSON) is sent unchanged, so that problems carry its lines and columns."""

PAGE = 100
"""The most items of one page; also the server's default."""

# Every function serves /version and /readyz; the client requests them from this one.
_ANY_FUNCTION = "workflows"

_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?')


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def address(*segments: str) -> str:
    """A path of the API with escaped segments. Raises InvalidError for an empty segment, `.` and `..`, which would change the path."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise errors.InvalidError(f"{segment!r} is not a name")
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def object_of(response: Response) -> dict[str, object]:
    """The JSON object of a response. Raises PermanentError when the response is anything else."""
    data = _json(response)
    if not isinstance(data, dict):
        raise errors.PermanentError("the response is not of the FuseML API; check the server's URL")
    return data


def _json(response: Response) -> object:
    try:
        return json.loads(response.body)
    except ValueError:
        raise errors.PermanentError("the response is not of the FuseML API; check the server's URL") from None


class Transport:
    """Requests to one server over persistent connections. Threads may share it.

    A password in the URL is the token, unless `token` is given.
    """

    def __init__(self, url: str, token: str | None, timeout: float, trace: Callable[[str], object] | None = None) -> None:
        bare, _, password = urls.split(url)
        self.url = server_urls.normal(bare if password else url)
        token = token or password or None
        if token is not None and not (token.isascii() and token.isprintable()):
            raise errors.InvalidError("the token contains characters that no token has; check FUSEML_TOKEN and the token's file")
        self.token = token
        self._timeout = timeout
        self._trace = trace or (lambda _: None)
        self._pool: urllib3.PoolManager | None = None

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def base(self, path: str) -> str:
        """The URL of the function that serves `path`."""
        function = catalog.find(path)
        return self.url.replace("{function}", function.service if function else _ANY_FUNCTION)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: Document | None = None,
        headers: Mapping[str, str] | None = None,
        expected: Sequence[int] = (200, 201, 202, 204),
    ) -> Response:
        """Send a request to the API. Raises the server's error, or TemporaryError when the server is unreachable."""
        text = urlencode([(key, item) for key, value in (query or {}).items() for item in _items(value)])
        url = self.base(path) + path + (f"?{text}" if text else "")
        return self.call(method, url, document=document, headers=headers, expected=expected)

    def call(
        self,
        method: str,
        url: str,
        *,
        document: Document | None = None,
        headers: Mapping[str, str] | None = None,
        expected: Sequence[int] = (200, 201, 202, 204),
    ) -> Response:
        """Send a request to a URL; only a URL of this server receives the token."""
        body, kind = _encoded(document)
        own = {"Accept": "application/json", "User-Agent": "fuseml-client", catalog.CLIENT: __version__}
        sent = {**own, **kind, **(headers or {})}
        if self.token and self._is_own(url):
            sent["Authorization"] = f"Bearer {self.token}"
        self._trace(f"> {method} {urls.shown(url)}" + (f" ({len(body)} bytes)" if body else ""))
        begun = time.monotonic()
        response = self._request(method, url, body, sent)
        self._trace(f"< {response.status} after {time.monotonic() - begun:.3f} s ({len(response.body)} bytes)")
        if response.status not in expected:
            raise refusals.refusal(response.status, response.body, f"{method} {url}")
        return response

    def _is_own(self, url: str) -> bool:
        own, other = urlsplit(self.url), urlsplit(url)
        hosts = re.escape(own.netloc).replace(re.escape("{function}"), "[a-z0-9-]+")
        return own.scheme == other.scheme and re.fullmatch(hosts, other.netloc) is not None

    def _request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        import urllib3

        if self._pool is None:
            self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(self._timeout))
        try:
            response = self._pool.request(method, url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.NameResolutionError:
            raise errors.TemporaryError(f"the host of {url} cannot be resolved; check FUSEML_SERVER_URL") from None
        except urllib3.exceptions.NewConnectionError:
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
            raise errors.TemporaryError(
                f"no FuseML server answers at {origin}; start one with `fuseml up`, or set FUSEML_SERVER_URL"
            ) from None
        except urllib3.exceptions.TimeoutError:
            raise errors.TemporaryError(f"{url} did not answer within {self._timeout:g} s; try again, or raise --timeout") from None
        except urllib3.exceptions.SSLError as error:
            raise errors.PermanentError(f"no secure connection to {url}: {error}; check the certificate, or use http://") from None
        except urllib3.exceptions.ProtocolError:
            raise errors.TemporaryError(f"the connection to {url} was closed, maybe by a restart of the server; try again") from None
        except (urllib3.exceptions.LocationParseError, UnicodeError):
            raise errors.InvalidError(f"{urls.shown(url)!r} is not a server's URL; write it like http://127.0.0.1:8000") from None
        return Response(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)

    def get_object(self, path: str, query: Query | None = None) -> dict[str, object]:
        """`GET` one object."""
        return object_of(self.send("GET", path, query=query))

    def change(
        self, method: str, path: str, *, query: Query | None = None, document: Document | None = None, revision: int | None = None
    ) -> dict[str, object]:
        """Send a request that changes something; the object of the response, empty if the response has no body.

        Raises StaleError if the record is no longer at `revision`.
        """
        headers = {"If-Match": f'"{revision}"'} if revision is not None else None
        response = self.send(method, path, query=query, document=document, headers=headers)
        return object_of(response) if response.body.strip() else {}

    def pages(self, path: str, query: Query | None = None, limit: int | None = None) -> Iterator[dict[str, object]]:
        """The items of a list, at most `limit`; each page is fetched when its first item is needed."""
        left = limit
        response = self.send("GET", path, query={**(query or {}), "limit": min(PAGE, limit) if limit is not None else None})
        while True:
            data = _json(response)
            if not isinstance(data, list):
                raise errors.PermanentError("the response is not of the FuseML API; check the server's URL")
            for item in data if left is None else data[:left]:
                yield cast(dict[str, object], item)
            left = left - len(data) if left is not None else None
            following = _NEXT.search(response.headers.get("link", ""))
            if following is None or (left is not None and left <= 0):
                return
            response = self.send("GET", f"{path}?{urlsplit(following[1]).query}")


def _items(value: str | int | Sequence[str] | None) -> Sequence[str]:
    if value is None or value == "":
        return ()
    return [str(value)] if isinstance(value, str | int) else list(value)


def _encoded(document: Document | None) -> tuple[bytes | None, Mapping[str, str]]:
    if document is None:
        return None, {}
    if isinstance(document, str):
        return document.encode(), {"Content-Type": "application/x-yaml"}
    return json.dumps(document).encode(), {"Content-Type": "application/json"}
