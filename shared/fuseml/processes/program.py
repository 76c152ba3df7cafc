"""A program that is not trusted: its request, and the change of a forked process into it. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from typing import TypedDict

from fuseml.processes import landlock

END = signal.SIGUSR1
_LIBC = ctypes.CDLL(None, use_errno=True)
_DEATH_SIGNAL, _DROP_CAPABILITY = 1, 24
_NOT_EXECUTABLE, _NOT_FOUND, _CANNOT_CONFINE = 126, 127, 125
# chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 10})
_RESTORED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, END, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


class Request(TypedDict):
    """A program and its limits, in bytes; 0 for none. `abi` is Landlock's, 0 for a program that is not confined to `grants`.

    `measured` folders count for the limit of the disk. A `tethered` program ends when the server closes the channel.
    """

    folder: str
    command: list[str]
    environment: dict[str, str]
    directory: str
    data_limit: int
    secrets: list[str]
    log_limit: int
    disk_limit: int
    measured: list[str]
    grants: list[landlock.Grant]
    abi: int
    tethered: bool


def become(request: Request, output: int) -> None:
    """Turn this process, a fork of the supervisor, into the program."""
    os.setsid()
    if sys.platform == "linux":
        prctl(_DEATH_SIGNAL, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    signal.set_wakeup_fd(-1)
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    code, command = _NOT_EXECUTABLE, request["command"]
    try:
        _limit_data(request["data_limit"])
        os.chdir(request["directory"])
        if request["abi"]:
            code = _CANNOT_CONFINE
            _drop_capabilities()
            landlock.confine(request["grants"], request["abi"])
            code = _NOT_EXECUTABLE
        try:
            os.execvpe(command[0], command, request["environment"])  # noqa: S606
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line that names its interpreter, as shells treat it.
            file = _found(command[0], request["environment"].get("PATH", os.defpath))
            os.execve("/bin/sh", ["/bin/sh", file, *command[1:]], request["environment"])  # noqa: S606
    except OSError as error:
        problem = "the step cannot be confined" if code == _CANNOT_CONFINE else command[0]
        os.write(2, f"fuseml: {problem}: {error.strerror}\n".encode(errors="replace"))
        os._exit(_NOT_FOUND if code == _NOT_EXECUTABLE and isinstance(error, FileNotFoundError) else code)


def _found(program: str, path: str) -> str:
    if "/" in program:
        return program
    files = [f"{folder or '.'}/{program}" for folder in path.split(os.pathsep)]
    return next((file for file in files if os.access(file, os.X_OK)), program)


def _limit_data(limit: int) -> None:
    if limit:
        # The hard limit of the machine applies if it is lower.
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _drop_capabilities() -> None:
    """Let root keep only the rights to files: others would let it read the variables of every process, or change the machine."""
    if os.geteuid() == 0:
        for capability in range(64):
            if capability not in _KEPT_CAPABILITIES:
                # Fails for those that the kernel does not know, and in a container that has none to drop.
                prctl(_DROP_CAPABILITY, capability)


def prctl(option: int, value: int) -> None:
    """Change this process (Linux). Options that the kernel does not know have no effect."""
    _LIBC.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
