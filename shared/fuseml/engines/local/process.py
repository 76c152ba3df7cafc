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
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from fuseml.engines.local import step_files

# Arguments: pid file, exit file, data limit in KiB or nothing, the command. The shell survives the signals that end the command, so
# that it can write the exit code. `ulimit` rejects a limit above the hard limit of the machine; then the hard limit applies. The shell ends
# with the code of the command, too: only a later server needs the file, in whose place the command may have put a FIFO or a link.
_SHELL = """\
echo $$ >"$1"
trap : TERM INT HUP
[ -z "$3" ] || ulimit -d "$3" || :
( shift 3; exec "$@" )
code=$?
if [ -L "$2" ] || { [ -e "$2" ] && [ ! -f "$2" ]; }; then exit $code; fi
echo $code >"$2"
exit $code
"""
_CODE = re.compile(rb"([0-9]{1,9})\n")
_POLL = 0.015
"""Seconds between two checks of an adopted process, which is not a child and cannot be waited for."""


class Process:
    """A running or ended process of the step in `folder`. One thread calls `wait`; any thread may call `signal`."""

    def __init__(self, folder: Path, child: subprocess.Popen[bytes] | None) -> None:
        self._folder = folder
        self._child = child
        self._guard = threading.Lock()
        self._ended = False
        self._unsent: signal.Signals | None = None

    @property
    def ended(self) -> bool:
        """Whether the step has ended, so that its exit code counts."""
        with self._guard:
            if self._ended:
                return True
            if self._child is None:
                return _number(self._folder, "exit") is not None
            # Not the file: a running step could write it, and would never be stopped.
            if hasattr(os, "waitid"):
                return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
            return self._child.poll() is not None

    def wait(self) -> int | None:
        """Block until the step has ended and return its exit code; None when none was recorded.

        The rest of its process group is killed: like a container, a step ends as a whole.
        """
        if self._child is None:
            while not self.ended and held(self._folder):
                self._send_unsent()
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
                code = self._child.wait()
                return code if code >= 0 else None
        return _number(self._folder, "exit")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group of the step, without blocking. Does nothing when it has ended.

        A signal to an adopted process whose shell has not yet written its pid is sent by `wait`, once it is known.
        In the first millisecond, between fork and exec, the shell may ignore a SIGTERM; it cannot ignore the SIGKILL that follows.
        """
        with self._guard:
            if self._ended:
                return
            group = self._child.pid if self._child is not None else self._adopted_group()
            self._unsent = number if group is None else None
            if group is not None:
                # macOS refuses to signal a group of zombies; Linux accepts it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)

    def _send_unsent(self) -> None:
        if self._unsent is not None:
            self.signal(self._unsent)

    def _adopted_group(self) -> int | None:
        if not held(self._folder):
            return None
        pid = _number(self._folder, "pid")
        # The step may have written the number: never this server's own group, nor every process (0 and 1 have that meaning).
        return pid if pid is not None and pid > 1 and pid != os.getpgrp() else None


def clear(folder: Path) -> None:
    """Remove the files of an earlier attempt before the next launch is recorded: later files belong to the new attempt."""
    # The lock, too: a daemon that left the group of the earlier attempt may hold the old one forever.
    for name in ("pid", "exit", "lock"):
        (folder / name).unlink(missing_ok=True)


def has_begun(folder: Path) -> bool:
    """Whether the process of the step in `folder` was created: an earlier server may have died just before."""
    return held(folder) or _number(folder, "pid") is not None


def start(
    folder: Path, command: Sequence[str], *, environment: Mapping[str, str], directory: Path, output: IO[bytes], data_limit: int | None
) -> Process:
    """Start `command` for the step in `folder`, after `clear`; it prints to `output`. `data_limit` is the data limit of each process in bytes.

    Raises OSError or ValueError when the process cannot be created (no memory, arguments too long, a NUL in a variable).
    """
    limit = "" if data_limit is None else str(max(1, data_limit // 1024))
    shell = ["/bin/sh", "-c", _SHELL, "fuseml", str(folder / "pid"), str(folder / "exit"), limit]
    with step_files.create(folder / "lock") as lock:
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
        with step_files.open_to_read(folder, name) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, step_files.WrongKindError):
        return False
    except BlockingIOError:
        return True
    return False


def _number(folder: Path, name: str) -> int | None:
    try:
        written = _CODE.fullmatch(step_files.read(folder, name, limit=32))
    except (FileNotFoundError, step_files.WrongKindError):
        return None
    return int(written[1]) if written else None
