"""Marks the environment of this process as in use, so that it is not removed meanwhile.

Every Python process of an environment holds a shared lock on its file `LOCK` for as long as it lives: a line in the environment's packages
imports this module at its start. The system releases the lock, however a process ends. It needs no right to write.
"""

from __future__ import annotations

import fcntl
import os
import sys

LOCK = "fuseml.lock"


def hold(prefix: str) -> int | None:
    """A descriptor that holds the lock of the environment at `prefix` until it is closed; None without a lock file, or while it is removed."""
    try:
        descriptor = os.open(f"{prefix}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


HELD = hold(sys.prefix)
