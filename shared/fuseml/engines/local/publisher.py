"""Hands events over, in order, and again later when the receiver refuses them. Nothing is lost by a crash: events are derived from disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from fuseml.domain import events

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


class Publisher:
    """One thread that calls `emit`. An event that was handed over is not told again by this process."""

    def __init__(self, emit: Callable[[events.Event], None]) -> None:
        self._emit = emit
        self._changed = threading.Condition()
        self._waiting: dict[str, list[events.Event]] = {}
        self._known: dict[str, set[tuple[str, str]]] = {}
        self._after: dict[str, Callable[[], None]] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="fuseml-publisher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Try each waiting event once more, and end; at most for `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def tell(self, run_id: str, told: Iterable[events.Event], after: Callable[[], None] | None = None) -> None:
        """Queue the events of a run that were not queued before. `after` is called once when all of the run's events are handed over."""
        with self._changed:
            known = self._known.setdefault(run_id, set())
            fresh = [event for event in told if (event.source, event.id) not in known]
            known.update((event.source, event.id) for event in fresh)
            self._waiting.setdefault(run_id, []).extend(fresh)
            if after is not None:
                self._after[run_id] = after
            self._changed.notify()

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if pause and not self._stopping:
                    self._changed.wait_for(lambda: self._stopping, pause)
                else:
                    self._changed.wait_for(lambda: self._stopping or self._waiting)
                waiting = list(self._waiting)
                last = self._stopping
            refused = [run_id for run_id in waiting if not self._hand_over(run_id)]
            if last and (refused or not waiting):
                return
            pause = min(max(_FIRST_PAUSE, pause * 2), _LONGEST_PAUSE) if refused else 0.0

    def _hand_over(self, run_id: str) -> bool:
        """Emit a run's waiting events in order; whether all were accepted. One run's refusal does not hold up the others."""
        try:
            while (event := self._next(run_id)) is not None:
                self._emit(event)
                with self._changed:
                    self._waiting[run_id].pop(0)
            with self._changed:
                done = self._after.get(run_id)
            if done is not None:
                done()
        except Exception:
            # Whatever the trouble of the receiver is, it has to be told again.
            _LOG.warning("events of run %s could not be handed over; they will be told again", run_id, exc_info=True)
            return False
        with self._changed:
            if not self._waiting[run_id]:
                del self._waiting[run_id]
                if done is not None:
                    del self._after[run_id], self._known[run_id]
        return True

    def _next(self, run_id: str) -> events.Event | None:
        with self._changed:
            queue = self._waiting[run_id]
            return queue[0] if queue else None
