"""A real `fuseml up` for tests: a child process with its own home and port, used only by HTTP and git."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import urllib3

from fuseml.runtime import catalog
from tests import commands
from tests.waiting import PATIENCE, wait_until, wait_until_ready

FINISHED = {"succeeded", "failed", "cancelled", "skipped"}

OBSERVED = frozenset({"revision", "traffic", "answering", "status", "cause", "created", "updated", "behind", "address_problem"})
"""The fields of an application that no client sends."""

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
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Remote:
    """A server at a URL, with the token of its administrator."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._pool = urllib3.PoolManager(retries=False)

    @property
    def url(self) -> str:
        return self._url

    @property
    def token(self) -> str:
        return self._token

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands against this server, without the user's own configuration."""
        return {**GIT_ENVIRONMENT, "FUSEML_SERVER_URL": self.url, "FUSEML_TOKEN": self.token, "COLUMNS": "100"}

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Response:
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", catalog.CLIENT: "tests", **(headers or {})}
        if body is not None:
            raw, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        response = self._pool.request(method, self.url + path, body=raw, headers=sent, timeout=PATIENCE)
        return Response(response.status, {name.lower(): value for name, value in response.headers.items()}, response.data)

    def get(self, path: str) -> Any:
        response = self.call("GET", path)
        assert response.status == 200, response
        return response.json

    def post(self, path: str, body: object = None, *, raw: bytes | None = None) -> Any:
        response = self.call("POST", path, body, raw=raw)
        assert response.status in (200, 201, 202), response
        return response.json if response.body else None

    def finished_run(self, name: str) -> dict[str, Any]:
        """Wait until the run has finished and its outputs are complete; the run. A finished run never has an open step."""

        def settled() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"/runs/{name}")
            if run["state"] not in FINISHED:
                return None
            assert {step["state"] for step in run["steps"]} <= FINISHED, run
            return run if run["settled"] else None

        wait_until(lambda: self.call("GET", f"/runs/{name}").status == 200, f"{name} to exist")
        run = wait_until(settled, f"{name} to finish")
        assert run is not None
        return run

    def settled(self) -> None:
        """Wait until no run is queued or running."""
        wait_until(lambda: not self.get("/runs?state=queued") and not self.get("/runs?state=running"), "all runs to finish")

    def fuseml(self, *arguments: str | pathlib.Path, **options: Unpack[commands.Options]) -> subprocess.CompletedProcess[str]:
        """Run the command line against this server."""
        return commands.fuseml(*arguments, environment=self.environment, **options)


class Server(Remote):
    """A running server. `start` may be called again after `kill` or `stop`, on the same home."""

    def __init__(self, home: pathlib.Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        # Settings of this machine's user for other servers do not reach this one.
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FUSEML_", "OTEL_"))}
        self.home, self._arguments, self._environment = home, arguments, {**own, **(environment or {})}
        super().__init__("", "")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Server:
        command = [*commands.FUSEML, "up", "--home", str(self.home), "--port", str(self.port), *self._arguments]
        log = self.output.open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=self._environment)
        wait_until_ready(self._process, self._is_up, "the server", self.output.read_text)
        self.port = int(self.url.rpartition(":")[2])
        return self

    def _is_up(self) -> bool:
        address = self.home / "url"
        if not address.exists():
            return False
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.call("GET", "/healthz").status == 200
        return False

    @property
    def output(self) -> pathlib.Path:
        """The file of its standard output and standard error."""
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
        """SIGKILL, as by an out-of-memory killer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        (self.home / "url").unlink(missing_ok=True)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it, by default as Ctrl-C does; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(PATIENCE)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands against this server, without the user's own configuration."""
        own = {"FUSEML_HOME": str(self.home), "FUSEML_CONFIG": str(self.home / "config.json"), "COLUMNS": "100"}
        return {**GIT_ENVIRONMENT, **own}

    def tracking_ready(self) -> None:
        """Wait until the MLflow server is ready."""
        wait_until(lambda: self.call("GET", "/readyz").json["components"]["mlflow"]["status"] == "ready", "MLflow to be ready")


@contextlib.contextmanager
def running(home: pathlib.Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    server = Server(home, *arguments, environment=environment)
    try:
        yield server.start()
    finally:
        server.stop()


def git(folder: pathlib.Path, *arguments: str) -> str:
    """Run git; its standard output. Fails with the output of git when git fails."""
    return commands.run(["git", *arguments], cwd=folder, environment=GIT_ENVIRONMENT).stdout.strip()


class Checkout:
    """A git checkout of a codeset, with the credentials for pushing in the remote's URL."""

    def __init__(self, folder: pathlib.Path, url: str, username: str, password: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        scheme, rest = url.split("://")
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "remote", "add", "origin", f"{scheme}://{username}:{password}@{rest}")

    def push(self, message: str, ref: str = "main") -> str:
        """Commit all changes and push them; the commit."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.folder, "push", "--quiet", "origin", f"HEAD:refs/heads/{ref}")
        return git(self.folder, "rev-parse", "HEAD")
