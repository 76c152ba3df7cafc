"""Addresses of requests that a server must not take for others, and raw requests with them: clients would normalise them."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterable, Mapping

from hypothesis import strategies

from fuseml.runtime import catalog
from tests.waiting import PATIENCE

DOTS = [
    ".",
    "..",
    "%2e",
    "%2E",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "%252e%252e",
    ".%252E",
    "%25252e%25252e",
    "..;",
    "..;x=1",
    "%2e%2e;/",
    "..%20",
    "%20..",
]
"""Spellings of dot segments."""

SLASHES = ["/", "//", "%2f", "%2F", "\\", "%5c", "%5C", "%252f", "%255c", "/;/", "/./"]
"""Spellings of what separates segments."""

BROKEN = [
    "%",
    "%2",
    "%zz",
    "%u002e",
    "%00",
    "%0a",
    "%7f",
    "%c2%85",
    "%c0%ae%c0%ae",
    "%ff",
    "%ed%a0%80",
    "\x01",
    "\x7f",
    "%25c0%25ae",
    "%2500",
    "#",
]
"""Text that is in no path."""

TARGETS = [catalog.EVENTS, catalog.DEAD_LETTERS, "/metrics", "/"]
"""The endpoints that nothing from outside may reach, and where they were."""

PREFIXES = [path for function in catalog.FUNCTIONS for path in function.paths]


def hostile() -> list[str]:
    """A table of request targets: every way up from every path of every function, to every internal endpoint."""
    found = []
    for prefix, target in itertools.product(PREFIXES, TARGETS):
        up = prefix.count("/")
        found += ["/".join([prefix, *[dots] * up]) + target for dots in DOTS]
        found += [f"{prefix}{slash}" + f"..{slash}" * up + target[1:] for slash in SLASHES if slash != "/"]
        found += [f"{prefix}/x{slash}..{slash}..{target}" for slash in SLASHES]
        found += [f"/{prefix}{target}", f"{prefix}/{target}", f"http://x{prefix}/..{target}", f"http://x{target}", f"{prefix}/..?{target}"]
        found += [f"{prefix}{target}" if target != "/" else f"{prefix}/.", f"{prefix}/%2e%69nternal/events", f"{prefix}/..%2f..{target}"]
    found += [f"{prefix}/{text}" for prefix in PREFIXES for text in BROKEN]
    return sorted(set(found) | {"*", "x", "//", "/..", "/%2e%2e", "//x/..", "http://127.0.0.1/", "/.", "/;/"})


PIECES = [
    *DOTS,
    *SLASHES,
    *BROKEN,
    *TARGETS,
    "x",
    "events",
    ".internal",
    "%2einternal",
    "a%20b",
    "%C3%BC",
    ";v=1",
    "?",
]
"""Parts of paths that servers read differently."""


def paths() -> strategies.SearchStrategy[str]:
    """Paths below a function, of such parts."""
    rest = strategies.lists(strategies.sampled_from(PIECES), min_size=1, max_size=8).map("".join)
    return strategies.tuples(strategies.sampled_from(PREFIXES), strategies.sampled_from(["/", ""]), rest).map("".join)


LEGITIMATE = [
    "/extensions",
    "/extensions/",
    "/extensions/minio/services/s3/endpoints/http%253A%252F%252Fminio.example%253A9000%252Fa%252520b",
    "/applications/iris/",
    "/codesets/demo/diabetes-1_x",
    "/projects/a.b",
    "/runs/mlflow-e2e-1/logs/step",
    "/events/42",
    "/events/codeset.pushed:demo/diabetes:refs/heads/main",
    "/events/artifact.recorded%253Amodel%253A%252F%252Fdemo%252Fm%252F1",
    "/extensions/caf%C3%A9",
    "/extensions/a%20b",
    "/extensions/100%25",
    "/workflows/a;b=1,c@d!$&'()*+=~",
    "/workflows/...",
    "/workflows/.hidden",
    "/workflows/a..b",
    "/extensions?product=model://demo/../m/%2E%2E%2F&zone=//",
]
"""Targets of the published API, with all that names, ids and URLs may hold."""


def send(
    port: int, method: str, target: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), body: bytes = b""
) -> tuple[int, bytes]:
    """Status and rest of the response to a request that is sent as it stands. 0 for a connection that the server closes without one."""
    fields = [*({"Host": f"127.0.0.1:{port}"} | dict(headers)).items(), ("Connection", "close")]
    fields += [("Content-Length", str(len(body)))] if body and "Transfer-Encoding" not in dict(headers) else []
    head = "".join(f"{name}: {value}\r\n" for name, value in fields if value)
    return exchange(port, f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)


def exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """Send bytes; read one response, or all until the end of a connection that the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(request)
            while not _is_whole(received) and (block := connection.recv(1 << 16)):
                received += block
        except ConnectionResetError:
            pass
    line = received.partition(b"\r\n")[0].split()
    return (int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/") else 0), received


def _is_whole(received: bytes) -> bool:
    head, end, body = received.lower().partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head)
    return bool(end and length and b"\r\nconnection: close" not in head and len(body) >= int(length[1]))
