"""The space that a program has taken in its folders. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
_SHARE = 20
"""A walk through the folders takes at most one of so many seconds."""
_BLOCK = 512


class Usage:
    """Compares the files in `folders` that have changed since now with `limit`, in bytes.

    Files are counted by a walk, which takes time. Between walks the space that is left on the file system shows whether one is due.
    """

    def __init__(self, folders: Sequence[str], limit: int) -> None:
        self._folders, self._limit = folders, limit
        # Clocks of file systems are coarse.
        self._since = time.time() - 1.0
        self._counted, self._free = 0, self._left()
        self._next_look = self._next_walk = 0.0

    @property
    def pause(self) -> float:
        """Seconds until `exceeded` should be called again."""
        return _PAUSE

    def exceeded(self) -> bool:
        """Whether the limit is exceeded. A call looks at most every quarter of a second."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _PAUSE
        free = self._left()
        # Nothing can have grown by more than the file system has lost, unless another program has freed space: hence the regular walk.
        if self._counted + max(0, self._free - free) <= self._limit and now < self._next_walk:
            return False
        self._counted, self._free = self._walk(), free
        taken = time.monotonic() - now
        self._next_look = time.monotonic() + max(_PAUSE, taken * _SHARE)
        self._next_walk = time.monotonic() + max(_LONGEST_PAUSE, taken * _SHARE)
        return self._counted > self._limit

    def _left(self) -> int:
        left = {}
        for folder in self._folders:
            with contextlib.suppress(OSError):
                status = os.statvfs(folder)
                left[status.f_fsid] = status.f_bavail * status.f_frsize
        return sum(left.values())

    def _walk(self) -> int:
        total, pending, linked = 0, list(self._folders), set()
        while pending:
            # Files come and go meanwhile.
            with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        if status.st_ctime < self._since or (status.st_dev, status.st_ino) in linked:
                            continue
                        if status.st_nlink > 1:
                            linked.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * _BLOCK
        return total
