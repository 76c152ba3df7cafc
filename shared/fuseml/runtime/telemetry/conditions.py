"""Conditions that last, in the log: a warning when a fault begins and when it ends, however often it is seen meanwhile."""

from __future__ import annotations

import logging
import threading

_MOST = 10_000


class Conditions:
    """The subjects with a fault, such as a tool that does not answer. Safe to share between threads."""

    def __init__(self) -> None:
        # Subject -> the newest cause.
        self._faults: dict[str, str] = {}
        self._lock = threading.Lock()

    def fault(self, log: logging.Logger, subject: str, cause: str, level: int = logging.WARNING) -> bool:
        """Log the fault of the subject at `level` if it is new; returns whether it is. A known one is logged as information, which the
        terminal does not show.
        """
        with self._lock:
            known = subject in self._faults
            if not known and len(self._faults) >= _MOST:
                # Of subjects that no longer exist.
                self._faults.pop(next(iter(self._faults)))
            self._faults[subject] = cause
        log.log(logging.INFO if known else level, "%s: %s", subject, cause)
        return not known

    def well(self, log: logging.Logger, subject: str) -> None:
        """Log the end of the subject's fault, if it had one."""
        with self._lock:
            cause = self._faults.pop(subject, None)
        if cause is not None:
            log.warning("%s: works again", subject)
