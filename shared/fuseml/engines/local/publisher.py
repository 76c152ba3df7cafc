"""Publisher of the engine's events, in order and with retries. A crash loses no event: events are derived from the records on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from fuseml.domain import events

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


class Publisher:
    """One thread that calls `emit`. It emits each event until `emit` accepts it, and then never again in this process."""

    def __init__(self, emit: Callable[[events.Event], None]) -> None:
        self._emit = emit
        self._changed = threading.Condition()
        self._pending: dict[str, list[events.Event]] = {}
        self._enqueued: dict[str, set[tuple[str, str]]] = {}
        self._callbacks: dict[str, Callable[[], None]] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="fuseml-publisher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Try each pending event once more and end, within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def enqueue(self, run_id: str, run_events: Iterable[events.Event], on_published: Callable[[], None] | None = None) -> None:
        """Enqueue events of a run; duplicates are ignored. `on_published` is called once when all events of the run are published."""
        with self._changed:
            enqueued = self._enqueued.setdefault(run_id, set())
            new = [event for event in run_events if (event.source, event.id) not in enqueued]
            enqueued.update((event.source, event.id) for event in new)
            self._pending.setdefault(run_id, []).extend(new)
            if on_published is not None:
                self._callbacks[run_id] = on_published
            self._changed.notify()

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if pause and not self._stopping:
                    self._changed.wait_for(lambda: self._stopping, pause)
                else:
                    self._changed.wait_for(lambda: self._stopping or self._pending)
                pending = list(self._pending)
                last = self._stopping
            failed = [run_id for run_id in pending if not self._publish(run_id)]
            if last and (failed or not pending):
                return
            pause = min(max(_FIRST_PAUSE, pause * 2), _LONGEST_PAUSE) if failed else 0.0

    def _publish(self, run_id: str) -> bool:
        """Emit the pending events of a run in order. Returns whether all were accepted; a failure does not delay other runs."""
        try:
            while (event := self._next(run_id)) is not None:
                self._emit(event)
                with self._changed:
                    self._pending[run_id].pop(0)
            with self._changed:
                callback = self._callbacks.get(run_id)
            if callback is not None:
                callback()
        except Exception:
            # Any failure of the consumer may be temporary, so the event is published again.
            _LOG.warning("events of run %s could not be published; trying again", run_id, exc_info=True)
            return False
        with self._changed:
            if not self._pending[run_id]:
                del self._pending[run_id]
                if callback is not None:
                    del self._callbacks[run_id], self._enqueued[run_id]
        return True

    def _next(self, run_id: str) -> events.Event | None:
        with self._changed:
            queue = self._pending[run_id]
            return queue[0] if queue else None
