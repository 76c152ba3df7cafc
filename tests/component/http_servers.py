"""The embedded HTTP server around a small application with routes of each kind, and raw connections to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import flask

from fuseml.embedded import admission, http_server
from fuseml.githosts import smart_http
from fuseml.runtime import auth
from fuseml.runtime.http import Api
from tests.waiting import PATIENCE

TOKEN = "the-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BASIC = {"Authorization": "Basic dTpzZWNyZXQ="}
TOKENS = auth.Tokens({auth.digest_of(TOKEN): auth.Caller("admin", "admin")})
BIG = 64 << 20


@dataclass
class Held:
    """Requests that the application holds until `release`."""

    release: threading.Event = field(default_factory=threading.Event)
    entered: list[str] = field(default_factory=list)
    given_up: threading.Event = field(default_factory=threading.Event)

    def wait(self, name: str) -> None:
        self.entered.append(name)
        assert self.release.wait(PATIENCE)


def application(held: Held) -> flask.Flask:
    """`/workflows` needs a token, `/webhooks/gitea` none; `hang` is held; `big` streams more than the server keeps."""
    app = Api("workflows", "Workflows", tokens=TOKENS).app
    app.config["MAX_CONTENT_LENGTH"] = None

    def size(**_: str) -> dict[str, int]:
        return {"size": len(flask.request.get_data())}

    def hang(name: str = "hang", rest: str = "") -> dict[str, str]:
        if name.startswith("hang"):
            held.wait(name)
        return {"name": name}

    def big() -> flask.Response:
        def pieces() -> Iterator[bytes]:
            try:
                for _ in range(BIG >> 16):
                    yield bytes(1 << 16)
            finally:
                held.given_up.set()

        return flask.Response(pieces(), headers={"Content-Length": str(BIG)})

    app.add_url_rule("/workflows", "size", size, methods=["GET", "POST"])
    app.add_url_rule("/webhooks/gitea", "webhook", size, methods=["POST"])
    app.add_url_rule("/git/<path:rest>", "git", size, methods=["GET", "POST"])
    app.add_url_rule("/workflows/hang", "hang", hang)
    app.add_url_rule("/runs/big", "big", big)
    app.add_url_rule("/apps/<name>/<path:rest>", "application", hang, methods=["GET", "POST"])
    return app


def functions(app: flask.Flask) -> dict[str, flask.Flask]:
    """Functions with the bounds of their bodies."""
    workflows = Api("workflows", "Workflows", tokens=TOKENS).app
    runs = Api("runs", "Runs", tokens=TOKENS).app
    return {"workflows": workflows, "runs": runs, "gitea_ingress": Api("gitea_ingress", "Webhooks", tokens=None).app}


@dataclass
class Running:
    server: http_server.HttpServer
    thread: threading.Thread
    held: Held
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, head: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        client = self.connect()
        client.sendall(head)
        return client

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
        """The response to one request on a connection of its own."""
        with contextlib.closing(self.send(request(method, path, headers, body))) as client:
            return read(client)

    def works(self) -> None:
        """A normal request of each kind is answered."""
        assert self.call("GET", "/healthz").status == 200
        assert self.call("POST", "/workflows", BEARER, b"name: x").json == {"size": 7}
        assert self.call("GET", "/apps/quick/v2").status in (200, 401)
        assert self.call("GET", "/git/p/c.git/info/refs").status == 200


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    fields = {"Host": "localhost", **({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", ""]).encode() + body


def read(client: socket.socket) -> Response:
    """The next final response on a connection."""
    with client.makefile("rb") as file:
        line = file.readline()
        assert line, "the connection was closed without a response"
        status, headers = int(line.split()[1]), dict[str, str]()
        while (line := file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = file.read(int(headers["content-length"])) if "content-length" in headers else b""
        return Response(status, headers, body)


def is_open(client: socket.socket) -> bool:
    """Whether the server has neither answered nor closed the connection."""
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        client.settimeout(PATIENCE)
    return False


@contextlib.contextmanager
def running(limits: http_server.Limits | None = None) -> Iterator[Running]:
    """A server of its own; at the end all its requests are released, and it ends."""
    held = Held()
    app = application(held)
    listener = socket.create_server(("127.0.0.1", 0))
    admissions = admission.Admissions(
        TOKENS,
        lambda project, codeset, user, password: password == "secret",
        functions(app),
        lambda _: None,
        lambda _: False,
        lambda path: 2 * smart_http.MAX_BODY if "/info/lfs/" in path else smart_http.MAX_BODY,
    )
    server = http_server.HttpServer(app, listener, admissions.admit, limits or http_server.Limits())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Running(server, thread, held, listener.getsockname()[1])
    finally:
        held.release.set()
        server.stop(PATIENCE)
        thread.join(PATIENCE)
        assert not thread.is_alive()
