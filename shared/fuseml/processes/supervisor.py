"""The supervisor of one program: starts it, confined, writes its output to a log, enforces its limits, and ends all that it has started.

It is the parent of each descendant of the program that has lost its own (Linux: a child subreaper), so none survives the program. It
outlives the server, and holds a locked file as long as it lives. The program's secrets pass through it, so its memory is closed to other
processes.

Protocol on the channel: from the server the length and the marshalled request; back `started`, at last `ended CODE REASON`, one a line. In
the folder of the request: `pid` of the supervisor, at last `exit` with code and reason. A line without its newline is not complete.
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import NoReturn

from fuseml.processes import disk, program
from fuseml.processes.program import prctl

END = program.END
"""Ends the program and its descendants at once; SIGTERM is passed on to the program's process group."""
SIGNALS = (signal.SIGTERM, signal.SIGHUP, END)
LENGTH = struct.Struct("=Q")
TOO_MUCH_LOG, TOO_MUCH_DISK = "log", "disk"
"""Reasons of an end by the supervisor."""

_BLOCK = 1 << 18
_END_SECONDS = 5.0
_DRAIN_SECONDS = 1.0
_SUBREAPER, _DUMPABLE = 36, 4
_NO_PROGRAM = 126


def main(channel: int, log: int, lock: int, masking: ModuleType) -> NoReturn:
    """Supervise the program that the channel asks for, and end this process. `lock` stays open until then."""
    code = 1
    try:
        os.setsid()
        with socket.socket(fileno=channel) as server:
            request = _receive(server)
            if request is not None:
                _Supervisor(request, server, log, masking).run()
                code = 0
    except BaseException as error:
        os.write(log, f"fuseml: the supervisor of the step failed: {type(error).__name__}: {error}\n".encode())
    finally:
        # Not earlier, and not by the collector: the lock is the sign of life.
        os.close(lock)
        os._exit(code)


def _receive(server: socket.socket) -> program.Request | None:
    with server.makefile("rb") as stream:
        header = stream.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        body = stream.read(LENGTH.unpack(header)[0])
    if len(body) < LENGTH.unpack(header)[0]:
        return None
    request: program.Request = marshal.loads(body)  # noqa: S302 - from the server that started this process
    return request


class _Supervisor:
    def __init__(self, request: program.Request, server: socket.socket, log: int, masking: ModuleType) -> None:
        self._request, self._server, self._log, self._masking = request, server, log, masking
        self._left = request["log_limit"] - os.fstat(log).st_size if request["log_limit"] else None
        self._usage = disk.Usage(request["measured"], request["disk_limit"]) if request["disk_limit"] else None
        self._pending: set[int] = set()
        self._status: int | None = None
        self._reason = ""
        self._ended = False
        self._child = self._output = 0

    def run(self) -> None:
        _write(self._request["folder"], "pid", f"{os.getpid()}\n")
        if sys.platform == "linux":
            prctl(_SUBREAPER, 1)
            prctl(_DUMPABLE, 0)
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda received, _: self._pending.add(received))
        self._output, inner = os.pipe()
        self._child = self._start(inner)
        os.close(inner)
        self._tell("started\n")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        mask = self._masking.Mask(self._request["secrets"])
        for piece in mask.stream(self._blocks(wake), final=True):
            self._print(piece)
        code = self._code()
        # A full disk must not hide the end from the server.
        with contextlib.suppress(OSError):
            _write(self._request["folder"], "exit", f"{code} {self._reason}".rstrip() + "\n")
        self._tell(f"ended {code} {self._reason}\n")

    def _tell(self, line: str) -> None:
        # The server may be gone.
        with contextlib.suppress(OSError):
            self._server.sendall(line.encode())

    def _start(self, output: int) -> int:
        child = os.fork()
        if child:
            return child
        try:
            program.become(self._request, output)
        finally:
            os._exit(_NO_PROGRAM)

    def _blocks(self, wake: int) -> Iterator[bytes]:
        """The output until the program and its descendants have ended. Signals and limits are served meanwhile."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(wake, select.POLLIN)
        if self._request["tethered"]:
            poll.register(self._server, select.POLLIN)
        while self._status is None and not self._ended:
            for descriptor, _ in poll.poll(None if self._usage is None else self._usage.pause * 1000):
                if descriptor == wake:
                    os.read(wake, 4096)
                elif descriptor != self._output:
                    self._ended = True
                elif data := os.read(self._output, _BLOCK):
                    yield data
                else:
                    poll.unregister(self._output)
            self._serve()
        self._end_all()
        yield from self._rest()

    def _serve(self) -> None:
        while self._pending:
            number = self._pending.pop()
            if number == END:
                self._ended = True
            elif number != signal.SIGCHLD:
                self._signal(signal.SIGTERM)
        if not self._reason and self._usage is not None and self._usage.exceeded():
            self._reason, self._ended = TOO_MUCH_DISK, True
        self._reap()

    def _reap(self) -> bool:
        """Collect ended children. Returns False when no child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._child:
                    self._status = status
        except ChildProcessError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._status is not None:
            return
        try:
            os.killpg(self._child, number)
        except (ProcessLookupError, PermissionError):
            # It leads no group yet. macOS refuses to signal a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._child, number)

    def _end_all(self) -> None:
        """Kill the descendants. Each pass kills those whose parents the previous one killed."""
        if sys.platform != "linux":
            # The group may outlive its leader; nothing else can be found.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + _END_SECONDS
        while self._reap():
            for pid in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                self._print(b"fuseml: a process of the step could not be ended\n")
                return
            time.sleep(0.0005)

    def _rest(self) -> Iterator[bytes]:
        """The output that is left in the pipe. A process outside of the step may have got it and keep it open."""
        poll, deadline = select.poll(), time.monotonic() + _DRAIN_SECONDS
        poll.register(self._output, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            data = os.read(self._output, _BLOCK)
            if not data:
                return
            yield data

    def _print(self, data: bytes) -> None:
        if self._reason == TOO_MUCH_LOG:
            return
        if self._left is not None and len(data) > self._left:
            data = data[: max(0, self._left)]
            self._reason, self._ended = TOO_MUCH_LOG, True
        if self._left is not None:
            self._left -= len(data)
        while data:
            try:
                data = data[os.write(self._log, data) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # The output is lost, as it would be for a program that writes to a file itself.
                return

    def _code(self) -> int:
        if self._status is None:
            return 128 + signal.SIGKILL
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            return [int(pid) for pid in file.read().split()]
    except OSError:
        # Kernels without CONFIG_PROC_CHILDREN, and other systems.
        return [int(name) for name in _numbers() if _parent(name) == own]


def _numbers() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib is slow to import
    except OSError:
        return []


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _write(folder: str, name: str, text: str) -> None:
    descriptor = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)  # noqa: PTH118
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
