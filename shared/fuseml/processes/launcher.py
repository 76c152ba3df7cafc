"""Starts programs under supervisors: the side of the server."""

from __future__ import annotations

import array
import marshal
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from fuseml import version
from fuseml.processes import program, supervisor

_START_SECONDS = 30.0
_START = "import sys; sys.path.append(sys.argv[1]); from fuseml.processes import spawner; spawner.main(int(sys.argv[2]), sys.argv[3])"


class Launcher:
    """One spawner, started by the first program and again after it was killed. All methods are thread-safe."""

    def __init__(self, masking: str) -> None:
        """`masking` is the path of the module that masks secrets in logs."""
        self._masking = masking
        self._guard = threading.Lock()
        self._control: socket.socket | None = None
        self._spawner: subprocess.Popen[bytes] | None = None

    def start(self, request: program.Request, log: int, lock: int) -> socket.socket:
        """Start a program; returns the channel to its supervisor, from which `started` has been read.

        The descriptors `log`, open to append, and `lock` are the supervisor's; the caller closes its own. Raises OSError or ValueError.
        """
        _check(request)
        body = marshal.dumps(dict(request))
        channel, inner = socket.socketpair()
        try:
            with inner:
                self._send([inner.fileno(), log, lock])
            # Not for ever: the spawner may be suspended.
            channel.settimeout(_START_SECONDS)
            channel.sendall(supervisor.LENGTH.pack(len(body)) + body)
            if _line(channel) != "started":
                raise OSError("the process of the step could not be created; the machine may be out of memory or processes")
            channel.settimeout(None)
        except BaseException as error:
            channel.close()
            if isinstance(error, TimeoutError):
                self._kill()
            raise
        return channel

    def close(self) -> None:
        """End the spawner; supervisors and their programs continue."""
        with self._guard:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._spawner is not None:
                self._spawner.wait()
                self._spawner = None

    def _kill(self) -> None:
        """Kill a spawner that does not react; the next program starts another."""
        with self._guard:
            if self._spawner is not None:
                self._spawner.kill()

    def _send(self, descriptors: Sequence[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        with self._guard:
            if self._control is not None:
                try:
                    self._control.sendmsg([b"."], rights)
                    return
                except OSError:
                    self._control.close()
                    self._control = None
            self._control = self._spawn()
            self._control.sendmsg([b"."], rights)

    def _spawn(self) -> socket.socket:
        if self._spawner is not None:
            self._spawner.wait()
        control, inner = socket.socketpair()
        folder = str(pathlib.Path(version.__file__).parents[1])
        with inner:
            # -I -S: independent of variables, of installed packages and of the working folder.
            self._spawner = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, folder, str(inner.fileno()), self._masking],
                env={},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[inner.fileno()],
            )
        return control


def _check(request: program.Request) -> None:
    """Raise ValueError for what no process can have."""
    for name, value in request["environment"].items():
        if not name or "=" in name:
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
        if "\0" in name + value:
            raise ValueError(f"the environment variable {name!r} contains a null byte")
    if any("\0" in argument for argument in request["command"]):
        raise ValueError("an argument of the command contains a null byte")


def _line(channel: socket.socket) -> str:
    """The next line; empty at the end. Reads no further than the line."""
    text = b""
    while not text.endswith(b"\n"):
        byte = channel.recv(1)
        if not byte:
            return ""
        text += byte
    return text.decode().strip()
