"""The process of a step. It outlives the server; a later server adopts it by its files.

Each step has a supervisor (`fuseml.processes.supervisor`), which writes its pid to `pid` and at last the exit code to `exit`, and ends every
process that the step has started. It holds a lock as long as it lives, and the kernel releases the lock when it dies. So a reused pid is never
mistaken for the step, and a server that dies between the fork and the first file does not lose the step. A pid is used only while the lock is
held. A step can neither write these files nor signal its supervisor where the kernel confines it (`confinement`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import threading
import time
import weakref
from pathlib import Path
from typing import IO

from fuseml.engines import step_files
from fuseml.processes import program, supervisor
from fuseml.processes.launcher import Launcher

_NUMBER = re.compile(rb"([0-9]{1,9})(?: ([a-z]{1,20}))?\n")
_POLL = 0.015
"""Seconds between two checks of an adopted supervisor, which has no channel to this server."""

End = tuple[int, str]
"""The exit code of a step, and the reason if its supervisor ended it."""


class Life:
    """The life of the processes of the step in `folder`, as its lock shows it, also after the folder was removed. Raises OSError when the lock
    cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._lock: int | None = None
        with contextlib.suppress(FileNotFoundError, step_files.WrongKindError), step_files.open_to_read(folder, "lock") as lock:
            self._lock = os.dup(lock.fileno())
            weakref.finalize(self, os.close, self._lock)

    def lasts(self) -> bool:
        """Whether the supervisor is alive."""
        if self._lock is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


class Process:
    """A running or ended process of the step in `folder`. One thread calls `wait`; any thread may call the other methods."""

    def __init__(self, folder: Path, life: Life, channel: socket.socket | None) -> None:
        self._folder = folder
        self._life = life
        self._channel = channel
        self._pid: End | None = None
        with contextlib.suppress(OSError):  # the next signal reads it
            self._pid = _numbers(folder, "pid")
        self._guard = threading.Lock()
        self._ended = False
        self._unsent: signal.Signals | None = None

    @property
    def ended(self) -> bool:
        """Whether the step has ended, so that its exit code counts."""
        with self._guard:
            if self._ended:
                return True
            if self._channel is None:
                return end_of(self._folder) is not None
            # Not the file: an unconfined step could write it, and would never be stopped.
            return bool(select.select([self._channel], [], [], 0)[0])

    def wait(self) -> End | None:
        """Block until the step has ended as a whole and its log is complete. None when the supervisor died without an exit code."""
        if self._channel is None:
            while self._life.lasts():
                self._send_unsent()
                time.sleep(_POLL)
            return self._settle(end_of(self._folder))
        with self._channel.makefile("rb") as stream:
            line = stream.readline()
        words = line.decode().split()
        return self._settle((int(words[1]), words[2] if len(words) > 2 else "") if words[:1] == ["ended"] else None)

    def stop(self) -> None:
        """Ask the step to end (SIGTERM), without blocking. Does nothing when it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have the supervisor end the step at once, without blocking."""
        self._signal(supervisor.END)

    def destroy(self) -> None:
        """Kill a supervisor that does not react to `kill`, and with it the program that it has started."""
        self._signal(signal.SIGKILL)

    def _settle(self, end: End | None) -> End | None:
        with self._guard:
            self._ended = True
            if self._channel is not None:
                self._channel.close()
        return end

    def _signal(self, number: signal.Signals) -> None:
        """A signal to an adopted supervisor that has not yet written its pid is sent by `wait`, once it is known."""
        with self._guard:
            if self._ended:
                return
            pid = self._supervisor()
            self._unsent = number if pid is None else None
            if pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
                    # An unconfined step may have suspended it.
                    os.kill(pid, signal.SIGCONT)

    def _send_unsent(self) -> None:
        if self._unsent is not None:
            self._signal(self._unsent)

    def _supervisor(self) -> int | None:
        if not self._life.lasts():
            return None
        self._pid = self._pid or _numbers(self._folder, "pid")
        # An unconfined step may have written the number: never this server, nor every process (0 and 1 have that meaning).
        return self._pid[0] if self._pid is not None and self._pid[0] > 1 and self._pid[0] != os.getpid() else None


def clear(folder: Path) -> None:
    """Remove the files of an earlier attempt before the next launch is recorded: later files belong to the new attempt."""
    # The lock, too: a supervisor that was abandoned may hold the old one.
    for name in ("pid", "exit", "lock"):
        (folder / name).unlink(missing_ok=True)


def has_begun(folder: Path) -> bool:
    """Whether the process of the step in `folder` was created: an earlier server may have died just before."""
    return held(folder) or _numbers(folder, "pid") is not None


def start(launcher: Launcher, request: program.Request, output: IO[bytes]) -> Process:
    """Start the program of the step in `request["folder"]`, after `clear`; it prints to `output`.

    Raises OSError or ValueError when the process cannot be created (no memory, a NUL in a variable).
    """
    folder = Path(request["folder"])
    with step_files.create(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        life = Life(folder)  # before the process exists: it may fail
        return Process(folder, life, launcher.start(request, output.fileno(), lock.fileno()))


def adopt(folder: Path) -> Process:
    """The process that an earlier server started for the step in `folder`, alive or not."""
    return Process(folder, Life(folder), None)


def held(folder: Path) -> bool:
    """Whether the supervisor of the step in `folder` is alive."""
    return Life(folder).lasts()


def end_of(folder: Path) -> End | None:
    """The end that the supervisor in `folder` recorded; it counts only once the supervisor is not alive. None without one."""
    return _numbers(folder, "exit")


def _numbers(folder: Path, name: str) -> End | None:
    try:
        written = _NUMBER.fullmatch(step_files.read(folder, name, limit=64))
    except (FileNotFoundError, step_files.WrongKindError):
        return None
    return (int(written[1]), (written[2] or b"").decode()) if written else None
