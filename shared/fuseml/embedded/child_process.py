"""Child processes that never outlive this process, even after kill -9.

A pipe joins the child's group to this process. When this process ends, the pipe closes, and a small shell at its other end ends the whole
group. No process id has to be stored, and no process is ended by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

_GRACE_SECONDS = 10

# The shell leads the group and waits for the child; `cat` waits for the pipe to close. The first of both to end ends the rest of the group,
# at last by SIGKILL. The shell ends with the last process, so that a wait for the shell is a wait for the group.
_SHELL = f"""
exec 3<&0
trap : TERM
"$@" </dev/null 3<&- &
child=$!
(trap '' TERM; cat <&3 >/dev/null; kill -TERM 0; sleep {_GRACE_SECONDS}; kill -KILL 0) &
while kill -0 $child 2>/dev/null; do wait $child; done
kill -KILL 0
"""


# The shell itself gets none of the child's variables: names such as OPTIND, IFS or LD_PRELOAD would change or stop it.
_EXECUTE = """
import marshal, os, sys
with open(int(sys.argv[1]), "rb") as source:
    variables = marshal.load(source)
try:
    os.execvpe(sys.argv[2], sys.argv[2:], variables)
except FileNotFoundError:
    sys.exit(f"{sys.argv[2]}: not found")
"""
_FIRST_DESCRIPTOR = 10
"""The shell's script uses lower ones."""


class SupervisedProcess:
    """A running child and its group."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: pathlib.Path, log: pathlib.Path, pipe: bool = False) -> None:
        """Start `argv`. Its errors (and its output, unless `pipe`, where `stdout` reads it) are appended to `log`."""
        reading, writing = os.pipe()
        source = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        os.close(reading)
        execute = [sys.executable, "-I", "-S", "-c", _EXECUTE, str(source)]
        with os.fdopen(writing, "wb") as variables:
            try:
                with log.open("ab") as errors_to:
                    self._process = subprocess.Popen(
                        ["/bin/sh", "-c", _SHELL, "supervised", *execute, *argv],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE if pipe else errors_to,
                        stderr=errors_to,
                        env={"PATH": os.defpath},
                        cwd=cwd,
                        start_new_session=True,
                        pass_fds=[source],
                    )
            finally:
                os.close(source)
            with contextlib.suppress(BrokenPipeError):
                # A child that has ended already is noticed by those who wait for it.
                marshal.dump(dict(env), variables)
                variables.flush()

    @property
    def stdout(self) -> IO[bytes]:
        """The child's output, if it was started with `pipe`."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Of the leader of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """End the group: SIGTERM first, SIGKILL after `grace` seconds."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def tail(log: pathlib.Path, lines: int = 3, *, since: int = 0) -> str:
    """The last lines of a log, joined, for messages; of those after `since` bytes, unless the log was rotated meanwhile."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = log.stat().st_size
        file.seek(max(since if since <= size else 0, size - 4096))
        texts = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(texts[-lines:])
