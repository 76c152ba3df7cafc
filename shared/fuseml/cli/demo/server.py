"""The demo's server: `fuseml up` as a child process in its own session, and the check that none of its processes survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml.domain import errors

# Seconds. On a cold machine, imports take long; the stop includes MLflow and the model servers.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
_PAUSE = 0.05
LOG_FILE = "demo-server.log"

COMMAND = (sys.executable, "-P", "-m", "fuseml.cli.main", "up", "--port", "0")


@dataclass(frozen=True)
class Server:
    """A server at `url`; `home` contains its state, token and log."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str

    @property
    def token(self) -> str:
        """The administrator's token, which the server wrote."""
        return (self.home / "token").read_text().strip()

    def stop(self, timeout: float = STOP_TIMEOUT) -> Sequence[str]:
        """Stop the server and kill its surviving processes; a line for each process that was killed."""
        self.process.terminate()
        try:
            self.process.wait(timeout)
            killed = []
        except subprocess.TimeoutExpired:
            killed = [f"{self.process.pid} (the server itself did not end within {timeout:g} s)"]
        survivors = processes_of(self.process.pid, self.home)
        for pid, command in survivors.items():
            if pid != self.process.pid:
                killed.append(f"{pid} ({command})")
            _kill(pid)
        self.process.wait()
        return killed


def start(home: Path, environment: Mapping[str, str], command: Sequence[str] = COMMAND, timeout: float = START_TIMEOUT) -> Server:
    """Start `command --home HOME` and wait until it has written its URL there.

    Raises PermanentError with the end of its log when the process ends before that, TemporaryError after `timeout` seconds.
    """
    # Settings of the user's own server do not apply to the demo's. Its tools write temporary files (MLflow unpacks models) below its
    # home, which is deleted at the end.
    (home / "tmp").mkdir()
    variables = {key: value for key, value in environment.items() if not key.startswith("FUSEML_")} | {"TMPDIR": str(home / "tmp")}
    with (home / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            [*command, "--home", str(home)],
            cwd=home,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise errors.PermanentError(f"the server ended with exit code {process.returncode}: {' | '.join(log_end(home, 3))}")
            url = _url_in(home)
            if url:
                return Server(process, home, url)
            time.sleep(_PAUSE)
        raise errors.TemporaryError(f"the server has not started within {timeout:g} s: {' | '.join(log_end(home, 3))}")
    except BaseException:
        Server(process, home, "").stop()
        raise


def _url_in(home: Path) -> str:
    try:
        return (home / "url").read_text().strip()
    except FileNotFoundError:
        return ""


def log_end(home: Path, lines: int) -> Sequence[str]:
    """The last lines of the server's log, then of its standard output."""
    files = [file for file in (home / "logs" / "server.log", home / LOG_FILE) if file.exists()]
    return [line for file in files for line in file.read_text(errors="replace").splitlines()[-lines:]] or ["its log is empty"]


def processes_of(session: int, home: Path) -> Mapping[int, str]:
    """The running processes of the session, or with `home` in their arguments or as their folder: pid to command line.

    MLflow, model servers and steps may have their own sessions, so the session alone does not prove that they have ended.
    The source is /proc; without /proc (macOS), only the process group is checked.
    """
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return {session: "its process group"} if _group_exists(session) else {}
    processes: dict[int, str] = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            # After the command in parentheses: state, parent, group, session.
            state, _, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            place = (folder / "cwd").readlink() if state != "Z" else Path()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # the process has ended meanwhile, or belongs to another user
        if state != "Z" and (int(owner) == session or str(home) in arguments or place.is_relative_to(home)):
            processes[int(folder.name)] = arguments[:100]
    return processes


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
