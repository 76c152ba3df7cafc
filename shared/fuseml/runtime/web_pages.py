"""Requests that web pages make through a user's browser.

A server on the user's machine is reachable for every page the user opens: by a simple request that needs no permission (CORS), or, once the
page's own host name resolves to this machine (DNS rebinding), by any request. Such requests carry cookies and need no token of an
anonymous server, so the server checks by which host it was called and from which origin.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Iterable

import werkzeug.exceptions
from werkzeug.datastructures import Headers

from fuseml.domain import errors

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\]+)", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_OWN_SITES = frozenset({"same-origin", "none"})
_JSON = frozenset({"application/json", "text/json"})
_YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/vnd.yaml"})


class Entrance:
    """The addresses by which a server is called: loopback by any port, `host` (the address it listens on), and `public_urls`.

    A server that listens on all addresses (`0.0.0.0`, `::`) accepts every address as a host; an address cannot be rebound, a name can.
    With `anonymous` a request needs no token, so none may come from a page of another origin.
    """

    def __init__(self, host: str, public_urls: Iterable[str] = (), *, anonymous: bool = False) -> None:
        self._anonymous = anonymous
        self._any_address = host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        self._origins = frozenset(_origin(url) for url in public_urls)
        self._names = frozenset({"localhost", host.lower().strip("[]"), *(name for _, name, _ in self._origins)})

    def check(self, headers: Headers) -> None:
        """Refuse a request by a foreign host name, or of a page of another origin without a token of its own. Raises ForbiddenError."""
        host = headers.get("Host", "")
        if not self._is_own_host(host):
            raise errors.ForbiddenError(
                f"this server is not called {host[:100]!r}; use the address that `fuseml up` shows, or name this one with --public-url"
            )
        scheme, _, _ = headers.get("Authorization", "").partition(" ")
        # No page of another origin can send a bearer token: the browser asks for permission first and gets none.
        has_token = scheme.lower() == "bearer" and not self._anonymous and "Cookie" not in headers
        if not has_token and self._is_foreign(headers, host):
            raise errors.ForbiddenError(
                "the request comes from a web page of another origin, which may not use this server; send a bearer token from a program"
            )

    def _is_own_host(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].lower().strip("[]")
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._any_address

    def _is_foreign(self, headers: Headers, host: str) -> bool:
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        if site is not None and site not in _OWN_SITES:
            return True
        if origin is None:
            return False
        match = _ORIGIN.fullmatch(origin.lower())
        if match is None:
            return True
        own = _ORIGIN.fullmatch(f"{match['scheme']}://{host.lower()}")
        found = _parts(match)
        return found is None or not ((own is not None and found == _parts(own)) or found in self._origins)


def check_body(headers: Headers, also: Iterable[str] = ()) -> None:
    """Refuse a body without a declared content type of JSON or YAML, or one of `also`.

    A form, plain text or a body without a type is what a page may send anywhere without permission. Programs may leave the type out (the
    original's client does); browsers, which send `Origin` or `Sec-Fetch-*`, may not. Raises UnsupportedMediaType.
    """
    given = headers.get("Content-Type", "")
    kind = media_type(given)
    if not given.strip():
        if "Origin" in headers or any(name.lower().startswith("sec-fetch-") for name, _ in headers):
            raise werkzeug.exceptions.UnsupportedMediaType(
                "a body from a browser needs a content type: application/json or application/x-yaml"
            )
    elif not (is_json(given) or is_yaml(given) or kind in also):
        raise werkzeug.exceptions.UnsupportedMediaType(
            f"the content type {given[:100]!r} is not accepted here; send application/json or application/x-yaml"
        )


def media_type(content_type: str | None) -> str:
    """The type without its parameters, in lower case."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_json(content_type: str | None) -> bool:
    """Whether the type is JSON's or has its suffix."""
    kind = media_type(content_type)
    return kind in _JSON or _has_suffix(kind, "json")


def is_yaml(content_type: str | None) -> bool:
    """Whether the type is YAML's or has its suffix."""
    kind = media_type(content_type)
    return kind in _YAML or _has_suffix(kind, "yaml")


def _has_suffix(kind: str, suffix: str) -> bool:
    return re.fullmatch(rf"[a-z]+/[a-z0-9!#$&^_.-]+(?:\+[a-z0-9!#$&^_.-]+)*\+{suffix}", kind) is not None


def _origin(url: str) -> tuple[str, str, int]:
    parts = urllib.parse.urlsplit(url)
    match = _ORIGIN.fullmatch(f"{parts.scheme}://{parts.netloc}".lower())
    found = _parts(match) if match else None
    if found is None:
        raise errors.InvalidError(f"{url!r} is not the URL of a server; write it like https://fuseml.example.com")
    return found


def _parts(origin: re.Match[str]) -> tuple[str, str, int] | None:
    """Scheme, host and port."""
    host = _HOST.fullmatch(origin["host"])
    return (origin["scheme"], host["name"].strip("[]"), int(host["port"] or _PORTS[origin["scheme"]])) if host else None
