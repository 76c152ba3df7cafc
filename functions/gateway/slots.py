"""Places for requests in progress, so that a slow function or slow bodies leave threads for all other requests."""

from __future__ import annotations

import threading


class Slots:
    """`at_once` places. At most `waiting` callers wait for one, for at most `seconds` each."""

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        self._waiting, self._seconds = waiting, seconds
        self._free, self._changed = at_once, threading.Condition()
        self._queue = 0

    def take(self) -> bool:
        """Take a place. Returns False if none became free."""
        with self._changed:
            if not self._free:
                if self._queue >= self._waiting:
                    return False
                self._queue += 1
                try:
                    if not self._changed.wait_for(lambda: self._free, self._seconds):
                        return False
                finally:
                    self._queue -= 1
            self._free -= 1
            return True

    def give_back(self) -> None:
        """End the use of a taken place."""
        with self._changed:
            self._free += 1
            self._changed.notify()
