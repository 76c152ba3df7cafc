"""Targets of probes, and their only request: a GET with limits of time and size.

Redirects are not followed, so credentials never reach another host; proxies of the environment are not used. No message quotes a
response body, the user, path or query of a URL, or a credential.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuseml.domain import errors

if TYPE_CHECKING:
    import urllib3

_CONNECT_SECONDS = 2.0
_READ_SECONDS = 2.0
_MAX_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a tool: header names in lower case, at most 64 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, with invalid bytes replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def fields(self) -> dict[str, object]:
        """The members of a JSON object; empty for any other body."""
        try:
            data = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True, slots=True)
class Target:
    """A tool's URL, with the configuration and the credentials that a step would get for it. `access` are headers of the requests from here
    only, which no record gets. `store` is the S3 server that the clients of this tool use.
    """

    url: str
    configuration: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    access: Mapping[str, str] = field(default_factory=dict, repr=False)
    store: Target | None = None

    @property
    def base(self) -> str:
        """The base URL of paths. Raises InvalidError."""
        parts = parse(self.url)
        return f"{parts.scheme}://{_host(parts)}{parts.path.rstrip('/')}"

    @property
    def origin(self) -> str:
        """The URL without user, path and query, for messages."""
        parts = parse(self.url)
        return f"{parts.scheme}://{_host(parts)}"

    def get(self, path: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """The response for `path` below the URL. Raises TemporaryError with the reason for a missing response, InvalidError for illegal
        headers.
        """
        import urllib3

        url = self.base + path
        all_headers = {"User-Agent": "fuseml-probe", "Accept": "*/*", "Accept-Encoding": "identity", **self.access, **(headers or {})}
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        deadline = time.monotonic() + _CONNECT_SECONDS + _READ_SECONDS
        try:
            with (
                urllib3.PoolManager(retries=False, timeout=timeout) as pool,
                pool.request("GET", url, headers=all_headers, redirect=False, preload_content=False) as response,
            ):
                return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, _read(response, deadline))
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(_reason(error, self.origin)) from None
        except ValueError:
            # An illegal header; the original message quotes it.
            raise errors.InvalidError("the credentials hold characters that cannot be sent, such as a line break; correct them") from None


def parse(url: str) -> urllib.parse.SplitResult:
    """The parts of an http(s) URL. Raises InvalidError without quoting the URL, which may hold a password."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise errors.InvalidError("this is not an http(s) URL; write it as http://host:port")
    return parts


def is_http(url: str) -> bool:
    """Whether it is an http(s) URL."""
    try:
        return bool(parse(url))
    except errors.InvalidError:
        return False


def normalise(url: str) -> str:
    """The canonical form of a URL: without user, default port, trailing slash and query. Other URLs than http(s) are unchanged."""
    if not is_http(url):
        return url
    parts = parse(url)
    host = _host(parts).lower().removesuffix(":443" if parts.scheme == "https" else ":80")
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def basic(username: str, password: str) -> dict[str, str]:
    """The header of HTTP basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def _host(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    # The read timeout applies to each chunk; the deadline bounds a server that sends one byte at a time.
    body = b""
    while len(body) < _MAX_BYTES and time.monotonic() < deadline:
        chunk = response.read1(_MAX_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    return body


def _reason(error: Exception, origin: str) -> str:
    import urllib3.exceptions

    match error:
        case urllib3.exceptions.NameResolutionError():
            return f"the host name of {origin} cannot be resolved; correct the URL"
        case urllib3.exceptions.NewConnectionError():
            return f"nothing answers at {origin}; start the tool, or correct the URL"
        case urllib3.exceptions.TimeoutError():
            return f"{origin} did not answer within {_READ_SECONDS:g} seconds; is it overloaded, or behind a firewall?"
        case urllib3.exceptions.SSLError():
            return f"the TLS connection to {origin} failed: its certificate is not trusted here, or the server speaks plain http"
        case urllib3.exceptions.LocationParseError():
            return f"{origin} is not an http(s) URL; write it as http://host:port"
    return f"the server at {origin} closed the connection or does not speak HTTP; correct the URL"
