"""A real `fuseml up` for tests: its own process, home and port, reached by HTTP and git only."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

GIT_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")},
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running server. `start` may be called again after `kill` or `stop`, on the same home."""

    def __init__(self, home: pathlib.Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.home, self._arguments, self._environment = home, arguments, {**os.environ, **(environment or {})}
        self._pool = urllib3.PoolManager(retries=False)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Server:
        command = [sys.executable, "-m", "fuseml.cli.main", "up", "--home", str(self.home), "--port", str(self.port), *self._arguments]
        log = self.output.open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=self._environment)
        wait_for(self._up, 30, "the server to be ready")
        self.port = int(self.url.rpartition(":")[2])
        return self

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output.read_text()
        address = self.home / "url"
        if not address.exists():
            return False
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.call("GET", "/healthz").status == 200
        return False

    @property
    def output(self) -> pathlib.Path:
        """What it prints."""
        return self.home.parent / f"{self.home.name}.out"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return (self.home / "url").read_text().strip()

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def kill(self) -> None:
        """kill -9, as an out-of-memory killer would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        (self.home / "url").unlink(missing_ok=True)

    def stop(self) -> int:
        """Ctrl-C."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", **(headers or {})}
        if body is not None:
            raw, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        response = self._pool.request(method, self.url + path, body=raw, headers=sent, timeout=120)
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: object = None, *, raw: bytes | None = None) -> Any:
        answer = self.call("POST", path, body, raw=raw)
        assert answer.status in (200, 201, 202), answer
        return answer.json if answer.body else None

    def finished_run(self, name: str, seconds: float = 120) -> dict[str, Any]:
        """The run, once it has finished."""
        wait_for(lambda: self.call("GET", f"/runs/{name}").status == 200, 30, f"{name} to exist")
        wait_for(lambda: self.get(f"/runs/{name}")["state"] in ("succeeded", "failed", "cancelled"), seconds, f"{name} to finish")
        run: dict[str, Any] = self.get(f"/runs/{name}")
        return run

    def settled(self) -> None:
        """Wait until no event is on its way."""
        wait_for(lambda: not self.get("/runs?state=queued") and not self.get("/runs?state=running"), 60, "all runs to finish")


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Poll until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def running(home: pathlib.Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    server = Server(home, *arguments, environment=environment)
    try:
        yield server.start()
    finally:
        server.stop()


def git(folder: pathlib.Path, *arguments: str) -> str:
    """Run git; fails with its errors."""
    done = subprocess.run(["git", *arguments], cwd=folder, env=GIT_ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Checkout:
    """A working copy of a codeset, with its push credentials in the remote."""

    def __init__(self, folder: pathlib.Path, url: str, username: str, password: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        scheme, rest = url.split("://")
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "remote", "add", "origin", f"{scheme}://{username}:{password}@{rest}")

    def push(self, message: str, ref: str = "main") -> str:
        """Commit everything and push. Returns the commit."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.folder, "push", "--quiet", "origin", f"HEAD:refs/heads/{ref}")
        return git(self.folder, "rev-parse", "HEAD")
