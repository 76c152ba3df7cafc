"""An address that is probed, and the one way to ask it something: a GET that is bounded in time and size.

Redirects are not followed, so nothing that is sent to a tool ever reaches another host; proxies of the environment are not used.
No message quotes an answer's body, a URL's user part, path or query, or a credential.
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
_MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered: header names in lower case, of the body at most 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, with what is none replaced."""
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
    """A tool's URL, with the configuration and the credentials that a step would get for it."""

    url: str
    configuration: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def base(self) -> str:
        """The URL that paths are appended to. Raises InvalidError."""
        parts = parse(self.url)
        return f"{parts.scheme}://{_host(parts)}{parts.path.rstrip('/')}"

    @property
    def origin(self) -> str:
        """The URL as messages name it."""
        parts = parse(self.url)
        return f"{parts.scheme}://{_host(parts)}"

    def get(self, path: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for `path` below the URL. Raises TemporaryError that says why there was no answer, InvalidError for what cannot be sent."""
        import urllib3

        url = self.base + path
        sent = {"User-Agent": "fuseml-probe", "Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        deadline = time.monotonic() + _CONNECT_SECONDS + _READ_SECONDS
        try:
            with (
                urllib3.PoolManager(retries=False, timeout=timeout) as pool,
                pool.request("GET", url, headers=sent, redirect=False, preload_content=False) as response,
            ):
                return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, _read(response, deadline))
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(_reason(error, self.origin)) from None
        except ValueError:
            # Of a header; the original message quotes it.
            raise errors.InvalidError("the credentials hold characters that cannot be sent, such as a line break; correct them") from None


def parse(url: str) -> urllib.parse.SplitResult:
    """The parts of an http(s) URL. Raises InvalidError, without quoting what might hold a password."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise errors.InvalidError("this is not a URL that can be asked; write it like http://host:port")
    return parts


def askable(url: str) -> bool:
    """Whether it is an http(s) URL."""
    try:
        return bool(parse(url))
    except errors.InvalidError:
        return False


def normal(url: str) -> str:
    """A spelling that is the same for the same address: no user, default port, trailing slash or query. What is not http(s) stays."""
    if not askable(url):
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
    # A server may send one byte now and then for ever: each of them is in time, all together must be, too.
    body = b""
    while len(body) < _MOST_BYTES and time.monotonic() < deadline:
        chunk = response.read1(_MOST_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    return body


def _reason(error: Exception, origin: str) -> str:
    import urllib3.exceptions

    match error:
        case urllib3.exceptions.NameResolutionError():
            return f"the host of {origin} is not known here; correct the URL"
        case urllib3.exceptions.NewConnectionError():
            return f"nothing answers at {origin}; start the tool, or correct the URL"
        case urllib3.exceptions.TimeoutError():
            return f"{origin} did not answer within {_READ_SECONDS:g} seconds; is it overloaded, or behind a firewall?"
        case urllib3.exceptions.SSLError():
            return f"there is no secure connection to {origin}: its certificate is not trusted here, or it is http:// in truth"
        case urllib3.exceptions.LocationParseError():
            return f"{origin} is not a URL that can be asked; write it like http://host:port"
    return f"what listens at {origin} broke the connection off or does not speak HTTP; correct the URL"
