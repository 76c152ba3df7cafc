"""The readiness of a function: checks of the things that it cannot work without, behind `/readyz`.

A probe has a tenth of a second and is repeated at once (infra/platform-facts.md 3.6), so a check runs in a thread of its own, one at a
time, and the next probe gets its result. A good result holds for five seconds: many probes are one query.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuseml.domain import errors

_log = logging.getLogger("fuseml.readiness")
_WAIT_SECONDS = 1.0
_GOOD_SECONDS = 5.0
_BAD_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a function needs: `check` raises FusemlError with the cause.

    With `outage_tolerated` a TemporaryError is reported and leaves the function ready.
    """

    name: str
    check: Callable[[], None]
    outage_tolerated: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a probe: a status and a message for each need, by its name."""

    ready: bool
    components: dict[str, dict[str, str]]


class Readiness:
    """The checks of one process; safe to share between threads."""

    def __init__(self, needs: Sequence[Need] = ()) -> None:
        self._checks = [_Check(need) for need in needs]

    def report(self) -> Report:
        """Waits for a second at most: a check that takes longer has failed."""
        deadline = time.monotonic() + _WAIT_SECONDS
        for check in self._checks:
            check.begin()
        results = [(check.need, check.result(deadline)) for check in self._checks]
        return Report(
            ready=not any(_prevents(need, error) for need, error in results),
            components={
                need.name: {"status": "failed", "message": error.message} if error else {"status": "ready"} for need, error in results
            },
        )


def _prevents(need: Need, error: errors.FusemlError | None) -> bool:
    return error is not None and not (need.outage_tolerated and isinstance(error, errors.TemporaryError))


class _Check:
    def __init__(self, need: Need) -> None:
        self.need = need
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting = False
        self._error: errors.FusemlError | None = errors.TemporaryError("the first check is still running")
        self._begun = self._ended = -math.inf

    def begin(self) -> None:
        """Start the check, unless it runs or its last result still holds."""
        with self._lock:
            holds = _BAD_SECONDS if self._error else _GOOD_SECONDS
            if self._thread is None and time.monotonic() - self._ended > holds:
                self._begun, self._waiting = time.monotonic(), False
                self._thread = threading.Thread(target=self._run, name=f"check-{self.need.name}", daemon=True)
                self._thread.start()

    def result(self, deadline: float) -> errors.FusemlError | None:
        """The last error. One probe waits for a running check: more would take the server's threads while nothing answers."""
        with self._lock:
            running, first, self._waiting = self._thread, not self._waiting, True
        if running is not None and first:
            running.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if self._thread is not None and time.monotonic() - self._begun >= _WAIT_SECONDS:
                return errors.TemporaryError(f"no answer within {_WAIT_SECONDS:g} s")
            return self._error

    def _run(self) -> None:
        error: errors.FusemlError | None = None
        try:
            self.need.check()
        except errors.FusemlError as failure:
            error = failure
        except Exception as failure:
            _log.exception("the check of the %s failed", self.need.name)
            error = errors.TemporaryError(f"the check failed with {type(failure).__name__}; the log has the cause")
        with self._lock:
            self._error, self._ended, self._thread = error, time.monotonic(), None
