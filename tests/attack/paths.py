"""Paths, headers and lengths that one server reads differently from another."""

from __future__ import annotations

import random

from fuseml.runtime import catalog
from tests.attack.target import Attack, Target, check
from tests.component import addresses
from tests.event_keys import FORGED

_REWRITING = {
    "SCRIPT_NAME": "/artifacts",
    "Script-Name": "/artifacts",
    "PATH_INFO": catalog.EVENTS,
    "X-Original-URL": catalog.EVENTS,
    "X-Rewrite-URL": catalog.EVENTS,
    "X-Forwarded-Prefix": "/artifacts",
    "X-Forwarded-Path": catalog.EVENTS,
    "X-HTTP-Method-Override": "POST",
    "Fuseml-Outside": "",
    "Connection": "Fuseml-Outside",
}
LENGTHS = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 0",
    "Transfer-Encoding: xchunked",
    "Content-Length: +5",
]
"""Lengths of a body that contradict each other, or that are none."""


def _refused(target: Target, path: str, headers: dict[str, str]) -> None:
    status, response = target.raw("POST", path, {**FORGED, **headers}, b"{}")
    check(status == 0 or 400 <= status < 500, f"POST {path} with {headers} was answered with {status}: {response[-200:]!r}")


def _ways_up(target: Target) -> None:
    for path in target.some("ways up", addresses.hostile()):
        _refused(target, path, {})
    check(FORGED["ce-id"] not in target.events(), "a forged event came through by a path")


def _pieces(target: Target) -> None:
    def make(chance: random.Random) -> str:
        return "".join([chance.choice(addresses.PREFIXES), "/", *chance.choices(addresses.PIECES, k=chance.randint(1, 8))])

    for path in target.generated("pieces", make):
        # A token changes nothing: these are no addresses of the API.
        target.raw("POST", path, {**FORGED, **target.bearer()}, b"{}")
    check(FORGED["ce-id"] not in target.events(), "a forged event came through by a path")


def _rewriting_headers(target: Target) -> None:
    for name, value in _REWRITING.items():
        for path in (f"/artifacts{catalog.EVENTS}", catalog.EVENTS, catalog.DEAD_LETTERS, "/artifacts/metrics", "/"):
            _refused(target, path, {name: value})


def _two_lengths(target: Target) -> None:
    smuggled = f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n"
    for fields in LENGTHS:
        for version in ("1.1", "1.0"):
            head = f"POST /runs HTTP/{version}\r\nHost: 127.0.0.1:{target.port}\r\nConnection: keep-alive\r\n{fields}\r\n\r\n"
            status, response = addresses.exchange(target.port, f"{head}0\r\n\r\n{smuggled}".encode())
            check(status in (400, 501), f"{fields!r} was answered with {status}")
            check(b"gitCommit" not in response, f"a request that was hidden behind {fields!r} was answered")


ATTACKS = (
    Attack("ways up to event endpoints", "no path of any function leads to an endpoint of the inside", _ways_up),
    Attack("paths of odd pieces", "a path that servers read differently reaches nothing", _pieces),
    Attack("headers that rewrite the path", "the path is the one of the request line", _rewriting_headers),
    Attack("two lengths", "a request of two lengths is refused, and hides no other", _two_lengths),
)
