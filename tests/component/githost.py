"""A running embedded git host and its clients: real git, and plain HTTP for requests that no git client sends."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug import exceptions
from werkzeug.middleware import dispatcher
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from fuseml.githosts import payload, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.webhooks import gitea
from tests import commands
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication as Application

PASSWORD = "correct horse"
SECRET = "s3cret"
MAX_BODY = 8_000_000
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": "2026-11-20T10:30:00+01:00",
}


nothing: Application = exceptions.NotFound()


@dataclass
class Server:
    """The git host on a port, and its webhook deliveries."""

    host: EmbeddedGitHost
    listening: BaseWSGIServer
    root: Path
    deliveries: list[payload.Delivery] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listening.port

    def url(self, codeset: str = "mnist", password: str = PASSWORD) -> str:
        return f"http://ada:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/git/workspace/{codeset}.git"

    def serve(self, application: Application) -> None:
        self.listening.app = dispatcher.DispatcherMiddleware(nothing, {"/git": application})

    def new_deliveries(self) -> list[tuple[str, dict[str, Any]]]:
        """The deliveries since the last call, with verified signatures: event and body."""
        new, self.deliveries[:] = list(self.deliveries), []
        for delivery in new:
            gitea.verify(SECRET, delivery.headers, delivery.body)
        return [(delivery.event, json.loads(delivery.body)) for delivery in new]


class _Quiet(WSGIRequestHandler):
    # HTTP/1.1, so that git may send chunked bodies.
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "host"
    root.mkdir()
    listening = make_server("127.0.0.1", 0, nothing, threaded=True, request_handler=_Quiet)
    host = EmbeddedGitHost(root, f"http://127.0.0.1:{listening.port}/git")
    host.create_repository("workspace", "mnist")
    running = Server(host, listening, root)
    git = smart_http.SmartHttp(
        host,
        authorise=lambda project, codeset, username, password: password == PASSWORD,
        deliver=running.deliveries.append,
        secret=lambda project, codeset: SECRET,
        max_body=MAX_BODY,
    )
    running.serve(git)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield running
    listening.shutdown()
    thread.join()
    listening.server_close()


class Clone:
    """A working copy on the user's machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, url: str, folder: Path, *options: str) -> Clone:
        git("clone", "--quiet", *options, url, str(folder))
        return cls(folder)

    @classmethod
    def fresh(cls, url: str, folder: Path, branch: str = "main") -> Clone:
        git("init", "--quiet", f"--initial-branch={branch}", str(folder))
        clone = cls(folder)
        clone.git("remote", "add", "origin", url)
        return clone

    def git(self, *arguments: str) -> str:
        return git(*arguments, cwd=self.folder)

    def commit(self, message: str = "a change", files: Mapping[str, str] | None = None) -> str:
        for name, text in (files or {}).items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_git("push", *arguments, cwd=self.folder)


def git(*arguments: str, cwd: Path | None = None) -> str:
    process = run_git(*arguments, cwd=cwd)
    assert process.returncode == 0, f"git {' '.join(arguments)}: {process.stderr}"
    return process.stdout.strip()


def run_git(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return commands.run(["git", *arguments], cwd=cwd, environment=ENVIRONMENT, code=None)


def history(folder: Path, length: int, seed: int) -> list[str]:
    """Create a repository with a linear history; returns its commits, oldest first. They depend only on the folder's name and the seed."""
    git("init", "--quiet", "--initial-branch=main", str(folder))
    stream = [
        f"commit refs/heads/main\ncommitter Ada <ada@example.com> {1_790_000_000 + number} +0000\n"
        f"data <<END\n{folder.name} {number} {seed}\nEND\nM 644 inline train.py\ndata <<END\nprint({number})\nEND\n"
        for number in range(length)
    ]
    commands.run(["git", "fast-import", "--quiet"], cwd=folder, environment=ENVIRONMENT, text="\n".join(stream))
    return git("rev-list", "--reverse", "main", cwd=folder).split()


@pytest.fixture
def clone(server: Server, tmp_path: Path) -> Clone:
    """A working copy with one commit, pushed to main."""
    clone = Clone.fresh(server.url(), tmp_path / "work")
    clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    server.new_deliveries()
    return clone


def parse_push(delivery: payload.Delivery) -> gitea.Push:
    push = gitea.read_push(gitea.decode(delivery.headers, delivery.body))
    assert isinstance(push, gitea.Push)
    return push


def packet(content: bytes) -> bytes:
    return f"{len(content) + 4:04x}".encode() + content


BASIC = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()


def get(server: Server, path: str, authorization: str | None = BASIC) -> tuple[int, Mapping[str, str], bytes]:
    return _request(server, "GET", path, None, {"Authorization": authorization} if authorization else {})


def post(server: Server, service: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    defaults = {"Authorization": BASIC, "Content-Type": f"application/x-{service}-request"}
    return _request(server, "POST", f"/git/workspace/mnist.git/{service}", body, defaults | headers)


def _request(
    server: Server, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: Mapping[str, str]
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body=body, headers=dict(headers), encode_chunked=True)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()
