"""Requests that a web page in the user's browser can cause."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.attack.target import Attack, Target, check

HOSTS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example:80@localhost",
    "[::1].evil.example",
]
PAGES = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
]
ADDED = [{}, {"Cookie": "session=x"}, {"Authorization": "Basic eDp0b2tlbg=="}]
"""What a browser adds by itself."""
SIMPLE = ["text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
"""Content types that a page may send anywhere."""


def _routes(target: Target) -> Iterator[tuple[str, str]]:
    yield from ((method, path) for method, path, _ in target.operations())
    yield from itertools.product(
        ("GET", "POST"), ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/apps/x/v2", "/mlflow/"]
    )


def _other_hosts(target: Target) -> None:
    for (method, path), host in target.some("hosts", itertools.product(_routes(target), HOSTS)):
        status, _ = target.raw(method, path, target.bearer(Host=host))
        check(status == 403, f"{method} {path} answers {status} by the name {host}")


def _foreign_pages(target: Target) -> None:
    for (method, path), page, added in target.some("pages", itertools.product(_routes(target), PAGES, ADDED)):
        status, response = target.raw(method, path, {**page, **added})
        # Without anything of the browser, a missing token is a refusal as good.
        check(status in (403, 401), f"{method} {path} answers {status} to a page {page} with {added}")
        check(b"access-control-allow" not in response.lower(), f"{method} {path} permits pages of others: {page}")


def _simple_bodies(target: Target) -> None:
    stolen = target.name("stolen")
    changing = [(method, path) for method, path, _ in target.operations() if method != "GET" and not path.startswith("/webhooks/")]
    for (method, path), kind in target.some("bodies", itertools.product(changing, SIMPLE)):
        own = {"Sec-Fetch-Site": "same-origin", "Content-Type": kind}
        status, _ = target.raw(method, f"{path}?name={stolen}", target.bearer(**own), b'{"a": 1}')
        check(status == 415, f"{method} {path} takes a body of {kind}, which needs no permission: {status}")
    for kind in SIMPLE:
        target.raw("POST", f"/projects?name={stolen}", {"Origin": "http://evil.example", "Cookie": "a=b", "Content-Type": kind}, b"{}")
    check(target.call("GET", f"/projects/{stolen}").status == 404, "a page has made a project")


ATTACKS = (
    Attack("other host names", "the server answers by its own names only, whatever the token (DNS rebinding)", _other_hosts),
    Attack("pages of other origins", "what a browser adds by itself serves no foreign page", _foreign_pages),
    Attack("bodies without permission", "no body of a form or of plain text is taken", _simple_bodies),
)
