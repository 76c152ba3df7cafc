"""The stand-in for the PingSource of `housekeeper`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fuseml.domain import errors, events
from fuseml.runtime import clock
from fuseml.runtime.telemetry.conditions import Conditions

_log = logging.getLogger("fuseml.server")
_TICK_SECONDS = 10.0


class Ticker:
    """Publishes a tick at its start and every ten seconds."""

    def __init__(self, publish: Callable[[events.Event], None]) -> None:
        self._publish, self._stopping, self._conditions = publish, threading.Event(), Conditions()
        self._thread = threading.Thread(target=self._tick, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the ticks and wait for the last one."""
        self._stopping.set()
        self._thread.join()

    def _tick(self) -> None:
        while True:
            moment = clock.now()
            try:
                self._publish(events.Event(events.TICK, "/embedded/pingsources/housekeeper", f"tick:{moment}", None, moment, {}))
                self._conditions.well(_log, "the ticks of the sweep")
            except errors.TemporaryError as error:
                self._conditions.fault(_log, "the ticks of the sweep", f"one was lost: {error.message}")
            if self._stopping.wait(_TICK_SECONDS):
                return
