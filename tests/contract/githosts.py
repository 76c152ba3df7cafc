"""The git hosts under test: the embedded one, the fake Gitea, and the real Gitea of the program FUSEML_GITEA."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug import exceptions
from werkzeug.middleware import dispatcher

from fuseml import githosts
from fuseml.githosts import embedded, payload, smart_http
from fuseml.webhooks.gitea import Push, decode, read_push, verify
from tests import commands
from tests.component import gitea
from tests.waiting import PATIENCE, answers, wait_until, wait_until_ready

Delivery = tuple[Mapping[str, str], bytes]
PASSWORD = "correct-horse-battery"
SECRET = "s3cret-of-the-codeset"


@dataclass
class UnderTest:
    """A git host and its webhook deliveries."""

    host: githosts.GitHost
    deliveries: Sequence[Delivery]
    secrets: dict[tuple[str, str], str] = field(default_factory=dict)

    def register(self, codeset: str, *, secret: str = SECRET, password: str = PASSWORD) -> str:
        """Create a repository of project `demo` as the function `codesets` does; returns the URL for pushes."""
        self.host.create_repository("demo", codeset)
        self.sign(codeset, secret)
        username = self.host.grant_push("demo", codeset, password)
        return self.host.clone_url("demo", codeset).replace("://", f"://{username}:{password}@")

    def sign(self, codeset: str, secret: str) -> None:
        self.secrets["demo", codeset] = secret
        self.host.sign_webhooks("demo", codeset, secret)

    def pushes(self, codeset: str, secret: str, count: int) -> list[Push]:
        """The delivered pushes to the codeset, once there are `count`; checks that all its deliveries are signed with `secret`."""
        wait_until(lambda: len(self._pushes(codeset, secret)) >= count, lambda: f"{count} pushes, not {self._pushes(codeset, secret)}")
        return self._pushes(codeset, secret)

    def _pushes(self, codeset: str, secret: str) -> list[Push]:
        # Gitea delivers asynchronously: deliveries of other tests may still arrive.
        own = [(headers, body) for headers, body in list(self.deliveries) if json.loads(body)["repository"]["name"] == codeset]
        for headers, body in own:
            verify(secret, headers, body)
        parsed = [read_push(decode(headers, body)) for headers, body in own]
        return [push for push in parsed if isinstance(push, Push)]


@contextlib.contextmanager
def embedded_host(folder: Path) -> Iterator[UnderTest]:
    """The git host of `fuseml up`, with passwords and secrets from a table."""
    passwords: dict[tuple[str, str], str] = {}
    deliveries: list[Delivery] = []
    application: dict[str, Any] = {"/git": exceptions.NotFound()}
    with gitea.listening(dispatcher.DispatcherMiddleware(exceptions.NotFound(), application)) as server:
        root = folder / "host"
        root.mkdir()
        host = _HostWithPasswords(root, f"http://127.0.0.1:{server.port}/git", passwords)
        under_test = UnderTest(host, deliveries)

        def deliver(delivery: payload.Delivery) -> None:
            deliveries.append((delivery.headers, delivery.body))

        application["/git"] = smart_http.SmartHttp(
            host,
            authorise=lambda project, codeset, username, password: passwords.get((project, codeset)) == password,
            deliver=deliver,
            secret=lambda project, codeset: under_test.secrets[project, codeset],
        )
        yield under_test


class _HostWithPasswords(embedded.EmbeddedGitHost):
    """Stores the passwords that the server would derive from its keys."""

    def __init__(self, root: Path, url: str, passwords: dict[tuple[str, str], str]) -> None:
        super().__init__(root, url)
        self._passwords = passwords

    def grant_push(self, project: str, codeset: str, password: str) -> str:
        self._passwords[project, codeset] = password
        return super().grant_push(project, codeset, password)


@contextlib.contextmanager
def fake_gitea(folder: Path) -> Iterator[UnderTest]:
    """The Gitea git host with the fake Gitea."""
    receiver = gitea.Receiver()
    with gitea.fake_gitea(folder / "gitea") as fake, gitea.listening(receiver) as server:
        host = githosts.connect(fake.url, gitea.TOKEN, f"http://127.0.0.1:{server.port}")
        yield UnderTest(host, receiver.deliveries)


@contextlib.contextmanager
def real_gitea(folder: Path) -> Iterator[UnderTest]:
    """The Gitea git host with the real Gitea. Skips the test without its program."""
    receiver = gitea.Receiver()
    with running_gitea(folder) as (url, token), gitea.listening(receiver) as server:
        yield UnderTest(githosts.connect(url, token, f"http://127.0.0.1:{server.port}"), receiver.deliveries)


@contextlib.contextmanager
def running_gitea(folder: Path) -> Iterator[tuple[str, str]]:
    """The address of a real Gitea and an administrator's token. Skips the test without its program."""
    program = os.environ.get("FUSEML_GITEA")
    if not program:
        pytest.skip("needs FUSEML_GITEA, the path of the gitea program")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, home = f"http://127.0.0.1:{port}", folder / "gitea"
    home.mkdir()
    configuration = home / "app.ini"
    user = getpass.getuser()
    configuration.write_text(_CONFIGURATION.format(url=url, port=port, home=home, user=user))
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GITEA_WORK_DIR": str(home), "USER": user}

    def run(*arguments: str) -> str:
        return commands.run([program, "--config", configuration, *arguments], environment=environment).stdout

    run("migrate")
    account = ["--username", "keeper", "--password", "keeper-of-the-keys", "--email", "keeper@fuseml.invalid"]
    run("admin", "user", "create", "--admin", *account, "--must-change-password=false")
    # Exactly the scopes that the description of the setting requires.
    scopes = "write:admin,write:organization,write:repository,read:user"
    output = run("admin", "user", "generate-access-token", "--username", "keeper", "--token-name", "fuseml", "--scopes", scopes, "--raw")
    token = output.split()[-1]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen([program, "--config", str(configuration), "web"], env=environment, stdout=log, stderr=log)
    try:
        wait_until_ready(process, lambda: answers(f"{url}/api/v1/version"), "Gitea", (home / "server.log").read_text)
        yield url, token
    finally:
        process.terminate()
        process.wait(PATIENCE)


_CONFIGURATION = """
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
RUN_USER = {user}
RUN_MODE = prod
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = {url}/
OFFLINE_MODE = true
DISABLE_SSH = true
[database]
DB_TYPE = sqlite3
PATH = {home}/gitea.db
[repository]
ROOT = {home}/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = only-for-this-test
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
[indexer]
ISSUE_INDEXER_TYPE = db
[log]
LEVEL = warn
"""
