"""Agents for tests, served by gunicorn as in a container."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import PATIENCE, answers, wait_until_ready

TOKEN = "agent-canary-41c09be2"


@dataclass(frozen=True)
class Running:
    """An agent at `url`, whose state is in `folder`."""

    url: str
    token: str
    folder: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def store(at: Path) -> Iterator[Running]:
    """The shipped store agent."""
    with running(at, "fuseml.agents.folder_store:serve()", {}) as agent:
        yield agent


@contextlib.contextmanager
def command(at: Path, command: str, port: int = 0) -> Iterator[Running]:
    """The shipped workload agent with this command."""
    with running(at, "fuseml.agents.command:serve()", {"FUSEML_AGENT_COMMAND": command}, port) as agent:
        yield agent


@contextlib.contextmanager
def running(at: Path, application: str, variables: Mapping[str, str], port: int = 0) -> Iterator[Running]:
    """An agent until the end of the block; its folder is `at/state`. `port` of one that was killed starts it again there."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    at.mkdir(parents=True, exist_ok=True)
    url, folder = f"http://127.0.0.1:{port}", at / "state"
    environment = {"PATH": os.environ["PATH"], "FUSEML_AGENT_TOKEN": TOKEN, "FUSEML_AGENT_FOLDER": str(folder), "FUSEML_AGENT_URL": url}
    options = ["--bind", f"127.0.0.1:{port}", "--threads", "8", "--worker-class", "gthread", "--no-control-socket"]
    # At its end gunicorn waits so long for the idle connections of this process, 30 s by default.
    options += ["--graceful-timeout", "1"]
    with (at / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, application], env={**environment, **variables}, stdout=log, stderr=log
        )
    try:
        wait_until_ready(process, lambda: answers(f"{url}/healthz"), "the agent", (at / "log").read_text)
        yield Running(url, TOKEN, folder, process)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
