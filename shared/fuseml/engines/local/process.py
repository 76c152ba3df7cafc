"""The process of a step. It outlives the server; a later server adopts it by its files.

A small shell leads a session of its own: it writes its pid to `pid`, runs the command, and writes the exit code to `exit`. A number
without its newline counts as not written, so neither file needs a rename, which would cost a process.

A lock shows whether a step is alive: the shell and all its children inherit an open, locked `lock`, and the kernel releases it when the
last of them exits. So a reused pid is never mistaken for the step, and a server that dies between the fork and the first file does not
lose the step. A pid is used only while the lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Arguments: pid file, exit file, data limit in KiB or nothing, the command. The shell survives the signals that end the command, so
# that it can write the exit code. `ulimit` rejects a limit above the hard limit of the machine; then the hard limit applies.
_SHELL = """\
echo $$ >"$1"
trap : TERM INT HUP
[ -z "$3" ] || ulimit -d "$3" || :
( shift 3; exec "$@" )
echo $? >"$2"
"""
_POLL = 0.015
"""Seconds between two checks of an adopted process, which is not a child and cannot be waited for."""
_PID_TIMEOUT = 2.0
"""Seconds in which a shell that holds the lock must write its pid."""


class Process:
    """A running or ended process of the step in `folder`. One thread calls `wait`; any thread may call `signal`."""

    def __init__(self, folder: Path, child: subprocess.Popen[bytes] | None) -> None:
        self._folder = folder
        self._child = child
        self._guard = threading.Lock()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the exit code is recorded."""
        return _number(self._folder / "exit") is not None

    def wait(self) -> int | None:
        """Block until the step has ended and return its exit code; None when none was recorded.

        The rest of its process group is killed: like a container, a step ends as a whole.
        """
        if self._child is None:
            while not self.ended and held(self._folder):
                time.sleep(_POLL)
        elif hasattr(os, "waitid"):
            # Without reaping it: while the shell's pid is in use, no other group can have its number.
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._child.wait()
        if self._child is not None or held(self._folder):
            self.signal(signal.SIGKILL)
        with self._guard:
            self._ended = True
            if self._child is not None:
                self._child.wait()
        return _number(self._folder / "exit")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group of the step. Does nothing when it has ended.

        In the first millisecond, between fork and exec, the shell may ignore a SIGTERM; it cannot ignore the SIGKILL that follows.
        """
        with self._guard:
            group = None if self._ended else self._child.pid if self._child is not None else self._adopted_pid()
            if group is not None:
                # macOS refuses to signal a group of zombies; Linux accepts it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)

    def _adopted_pid(self) -> int | None:
        deadline = time.monotonic() + _PID_TIMEOUT
        while held(self._folder) and time.monotonic() < deadline:
            pid = _number(self._folder / "pid")
            if pid is not None:
                return pid
            time.sleep(_POLL)
        return None


def clear(folder: Path) -> None:
    """Remove the files of an earlier attempt before the next launch is recorded: later files belong to the new attempt."""
    # The lock, too: a daemon that left the group of the earlier attempt may hold the old one forever.
    for name in ("pid", "exit", "lock"):
        (folder / name).unlink(missing_ok=True)


def has_begun(folder: Path) -> bool:
    """Whether the process of the step in `folder` was created: an earlier server may have died just before."""
    return held(folder) or _number(folder / "pid") is not None


def start(
    folder: Path, command: Sequence[str], *, environment: Mapping[str, str], directory: Path, output: IO[bytes], data_limit: int | None
) -> Process:
    """Start `command` for the step in `folder`, after `clear`; it prints to `output`. `data_limit` is the data limit of each process in bytes.

    Raises OSError or ValueError when the process cannot be created (no memory, arguments too long, a NUL in a variable).
    """
    limit = "" if data_limit is None else str(max(1, data_limit // 1024))
    shell = ["/bin/sh", "-c", _SHELL, "fuseml", str(folder / "pid"), str(folder / "exit"), limit]
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(
            [*shell, *command],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    return Process(folder, child)


def adopt(folder: Path) -> Process:
    """The process that an earlier server started for the step in `folder`, alive or not."""
    return Process(folder, None)


def held(folder: Path, name: str = "lock") -> bool:
    """Whether a process that inherited the lock `name` of the step in `folder` is alive."""
    try:
        with (folder / name).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None
