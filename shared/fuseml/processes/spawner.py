"""The process that forks supervisors: it starts once, has one thread and little memory, so that a fork takes a millisecond.

It ends with the server whose socket it reads; its supervisors do not.
"""

from __future__ import annotations

import array
import importlib.machinery
import os
import signal
import socket
from types import ModuleType

from fuseml.processes import supervisor

DESCRIPTORS = 3
"""Of each request: the channel to the supervisor, the log, and the lock."""


def main(control: int, masking: str) -> None:
    """Serve requests on the socket `control`. `masking` is the path of the module that masks secrets."""
    os.chdir("/")
    # Masked until a supervisor has handlers: a request to end a program must not end its supervisor.
    signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.SIGNALS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ended supervisors need no wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mask = _load(masking)
    with socket.socket(fileno=control) as requests:
        while descriptors := _next(requests):
            if os.fork() == 0:
                requests.close()
                channel, log, lock = descriptors
                supervisor.main(channel, log, lock, mask)
            for descriptor in descriptors:
                os.close(descriptor)


def _next(requests: socket.socket) -> list[int]:
    """The descriptors of the next request; none when the server has ended."""
    descriptors = array.array("i")
    try:
        data, ancillary, _, _ = requests.recvmsg(1, socket.CMSG_SPACE(DESCRIPTORS * descriptors.itemsize))
    except ConnectionError:
        return []
    for _, _, content in ancillary:
        descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    received = list(descriptors) if data else []
    for descriptor in received:
        os.set_inheritable(descriptor, False)
    return received


def _load(path: str) -> ModuleType:
    # By path: an import would run the `__init__` of its package, which imports most of FuseML.
    loader = importlib.machinery.SourceFileLoader("masking", path)
    module = ModuleType(loader.name)
    module.__file__ = path
    loader.exec_module(module)
    return module
