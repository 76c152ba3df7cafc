"""The attacked server, and what all attacks watch: it never fails by itself, and goes on answering."""

from __future__ import annotations

import ipaddress
import pathlib
import random
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3

from tests.component import addresses
from tests.embedded import servers

T = TypeVar("T")

# Statuses of the 5xx class that are answers: not implemented, an application that cannot be served, busy, too late.
_ANSWERS = (501, 502, 503, 504)


class Breach(Exception):
    """The attack has succeeded; the message is the evidence."""


@dataclass(frozen=True)
class Attack:
    """`holds` is what is true of a defended server. A `slow` attack starts processes or waits for bounds of time."""

    name: str
    holds: str
    attempt: Callable[[Target], None]
    slow: bool = False


class Target(servers.Remote):
    """A server at a loopback address. `cases` bounds each generated family, `seed` determines it; `folder` is for files of attacks."""

    def __init__(self, url: str, token: str, folder: pathlib.Path, *, seed: int = 0, cases: int = 200) -> None:
        super().__init__(url, token)
        self.port, self.folder = loopback_port(url), folder
        self._seed, self._cases, self._names = seed, cases, 0

    def name(self, kind: str) -> str:
        """A name that no attack has used."""
        self._names += 1
        return f"{kind}-{self._seed}-{self._names}"

    def chance(self, family: str) -> random.Random:
        """The chance of a family of cases, equal for equal seeds."""
        return random.Random(f"{self._seed}/{family}")

    def some(self, family: str, cases: Iterable[T]) -> list[T]:
        """At most the bounded number of the cases, chosen by the seed."""
        found = list(cases)
        return self.chance(family).sample(found, min(len(found), self._cases))

    def generated(self, family: str, make: Callable[[random.Random], T]) -> list[T]:
        """The bounded number of made cases."""
        chance = self.chance(family)
        return [make(chance) for _ in range(self._cases)]

    def raw(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> tuple[int, bytes]:
        """Status and rest of the response to a request that is sent as it stands; 0 for a connection closed without one."""
        status, response = addresses.send(self.port, method, target, headers or {}, body)
        check(status < 500 or status in _ANSWERS, f"{method} {target} was answered with {status}: the server failed")
        return status, response

    def expect_answer(self, path: str, status: int, when: str) -> None:
        """Raise Breach unless GET of the path is answered with this status. `when` completes the evidence."""
        try:
            found = self.call("GET", path).status
        except urllib3.exceptions.HTTPError as error:
            raise Breach(f"GET {path} is not answered {when}: {type(error).__name__}") from error
        check(found == status, f"GET {path} is answered with {found} {when}")

    def bearer(self, **more: str) -> dict[str, str]:
        """The header of the administrator, and others."""
        return {"Authorization": f"Bearer {self.token}", **more}

    def events(self) -> set[str]:
        """The ids of the newest events and dead letters."""
        return {event["id"] for path in ("/events?limit=500", "/events/dead-letters?limit=500") for event in self.get(path)}

    def measured(self, metric: str) -> float:
        """A metric of the server's process. Raises Breach if the server reports none."""
        text = self.call("GET", "/metrics").body.decode()
        found = re.search(rf"^{metric} (\S+)$", text, re.MULTILINE)
        check(found is not None, f"/metrics has no {metric}, so that the attack cannot be judged")
        assert found
        return float(found[1])

    def operations(self) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
        """Method, path and description of every documented operation, with `x` for parameters of paths."""
        paths = self.get("/openapi.json")["paths"]
        return [
            (method.upper(), re.sub(r"{[^}]*}", "x", path), operation)
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]

    def codeset(self, workflow: str = "") -> tuple[servers.Checkout, str, str]:
        """A codeset of its own, with its project and name; `workflow` (YAML, `{name}` in it) is assigned to it."""
        project, name = self.name("project"), self.name("code")
        registered = self.post(f"/codesets?project={project}&name={name}")
        if workflow:
            self.post("/workflows", raw=workflow.replace("{name}", name).encode())
            self.post(f"/workflows/assignments?name={name}&codesetProject={project}&codesetName={name}")
        checkout = servers.Checkout(self.folder / name, registered["codeset"]["url"], registered["username"], registered["password"])
        return checkout, project, name


def check(defended: object, evidence: str) -> None:
    """Raise Breach with the evidence unless the condition of a defended server is true."""
    if not defended:
        raise Breach(evidence)


def loopback_port(url: str) -> int:
    """The port of a plain HTTP URL of this machine. Raises ValueError for any other: attacks are for servers of one's own."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    try:
        is_own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if parts.scheme != "http" or not is_own:
        raise ValueError(f"{url} is not an http:// address of this machine; attacks go to 127.0.0.1, ::1 or localhost only")
    return parts.port or 80
