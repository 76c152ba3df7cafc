"""Counters and histograms. A count is a change of a dictionary; the Prometheus client, which takes 55 ms to import, only writes the
response to a scrape.

Labels come from bounded sets: functions, templates of routes, event types of FuseML (`other` for foreign ones), states, outcomes.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fuseml.domain import times

if TYPE_CHECKING:
    import sqlmodel
    from prometheus_client import Metric

    from fuseml.store import runs

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RUN_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)


class Counter:
    """Number of occurrences since the process started."""

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def count(self, *values: str) -> None:
        """Add one, with a value for each label."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + 1

    def collect(self) -> Metric:
        """In the form of the Prometheus client."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        with self._lock:
            for values, count in self._counts.items():
                family.add_metric(values, count)
        return family


class Histogram:
    """Durations in seconds: the number up to each of `bounds`, and their sum."""

    kind = "histogram"

    def __init__(self, name: str, text: str, *labels: str, bounds: Sequence[float] = _SECONDS) -> None:
        self.name, self.text, self.labels, self._bounds = name, text, labels, bounds
        self._seen: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def observe(self, seconds: float, *values: str) -> None:
        """Add a duration, with a value for each label."""
        with self._lock:
            buckets = self._seen.setdefault(values, [0] * (len(self._bounds) + 1))
            buckets[bisect.bisect_left(self._bounds, seconds)] += 1
            self._sums[values] = self._sums.get(values, 0.0) + seconds

    @contextlib.contextmanager
    def timed(self, *values: str) -> Iterator[None]:
        """Observe the duration of the block, also if it fails."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - begun, *values)

    def collect(self) -> Metric:
        """In the form of the Prometheus client."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        with self._lock:
            for values, counts in self._seen.items():
                family.add_metric(values, list(_cumulated(self._bounds, counts)), self._sums[values])
        return family


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, int]]:
    total = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        yield bound, total


EVENTS = Counter(
    "fuseml_events_total",
    "Deliveries of events, by outcome: handled, duplicate, unknown, unsigned, refused, failed",
    "function",
    "type",
    "outcome",
)
EVENT_SECONDS = Histogram("fuseml_event_duration_seconds", "Time to handle a delivery of an event", "function", "type")
REQUESTS = Counter("fuseml_http_requests_total", "HTTP requests, by the route's template", "function", "method", "route", "status")
REQUEST_SECONDS = Histogram("fuseml_http_request_duration_seconds", "Time to answer an HTTP request", "function", "method", "route")
RUN_SECONDS = Histogram(
    "fuseml_run_duration_seconds", "Time from the creation of a run to its finish, by its final state", "state", bounds=_RUN_SECONDS
)
RESOLVE_SECONDS = Histogram("fuseml_resolve_duration_seconds", "Time to resolve the selectors of a step or of a request")

COUNTED: tuple[Counter | Histogram, ...] = (EVENTS, EVENT_SECONDS, REQUESTS, REQUEST_SECONDS, RUN_SECONDS, RESOLVE_SECONDS)
"""The metrics of the process itself; `telemetry.scrape` adds readings of the store."""


def run_finished(session: sqlmodel.Session, row: runs.Run) -> None:
    """Count a finished run after the commit of the transaction."""
    import sqlalchemy

    state, seconds = row.state, times.between(row.created, row.finished or row.created)
    sqlalchemy.event.listen(session, "after_commit", lambda _: RUN_SECONDS.observe(max(0.0, seconds), state), once=True)
