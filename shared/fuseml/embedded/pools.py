"""Threads for requests: a bounded pool for each kind of request, divided fairly among callers.

A caller is a key: an application, a repository, an account. It occupies at most half of the threads that others leave free, so its slow
requests stop no other caller; its further requests wait without a thread, in a bounded queue.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("fuseml.server")

Task = Callable[[], None]


class Pool:
    """`threads` threads, started when they are needed. `waiting` limits the queue of one caller."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name = name
        self._threads, self._waiting = threads, waiting
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[str, collections.deque[Task]] = collections.OrderedDict()
        self._running = collections.Counter[str]()
        self._started, self._idle, self._queued, self._closed = 0, 0, 0, False

    def submit(self, key: str, task: Task) -> bool:
        """Execute the task of the caller `key` in a thread. Returns False if its queue is full."""
        with self._changed:
            if self._closed:
                return False
            queue = self._queues.get(key)
            if queue is not None and len(queue) >= self._waiting:
                return False
            if queue is None:
                queue = self._queues[key] = collections.deque()
            queue.append(task)
            self._queued += 1
            # An idle thread may have been woken already for another task.
            if self._queued > self._idle and self._started < self._threads:
                threading.Thread(target=self._work, name=f"http-{self.name}-{self._started}", daemon=True).start()
                self._started += 1
            self._changed.notify()
        return True

    def close(self) -> None:
        """Start no further task. Idle threads end, busy ones after their task."""
        with self._changed:
            self._closed = True
            self._queues.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (found := self._next()) is not None:
            key, task = found
            try:
                task()
            except Exception:
                # The thread must survive for the next request.
                _log.exception("a request failed outside of its application")
            with self._changed:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]
                if self._queued:
                    # The end of a task may allow another one of the same caller, or of a caller whose share has grown.
                    self._changed.notify()

    def _next(self) -> tuple[str, Task] | None:
        with self._changed:
            while not self._closed:
                key = next((key for key in self._queues if self._may_run(key)), None)
                if key is not None:
                    queue = self._queues.pop(key)
                    task = queue.popleft()
                    self._queued -= 1
                    if queue:
                        # Behind the other callers.
                        self._queues[key] = queue
                    self._running[key] += 1
                    if self._queues:
                        self._changed.notify()
                    return key, task
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return None

    def _may_run(self, key: str) -> bool:
        own = self._running[key]
        others = self._running.total() - own
        return own < max(1, (self._threads - others) // 2)
