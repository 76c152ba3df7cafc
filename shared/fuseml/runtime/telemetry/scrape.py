"""The answer to a scrape: what this process counted and, where it stands for the whole installation, what waits in the store.

Depths and ages are the same for everybody, so only one place tells them (`housekeeper`, and the embedded server): a sum over all
functions is then right. Nothing here is remembered: a scrape reads it by a few indexed queries.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseml.domain import errors, times
from fuseml.runtime.telemetry import metrics

if TYPE_CHECKING:
    from prometheus_client import Metric

    from fuseml.store import database


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something that goes up and down."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: str = "gauge"

    def collect(self, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
        """As the Prometheus client has it."""
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in values:
            family.add_metric(labels, value)
        return family


REACHABLE = Gauge("fuseml_store_reachable", "1 if the database answered this scrape; 0 if it did not, and the other gauges are missing")
QUEUE = Gauge("fuseml_queue_depth", "Deliveries that wait in the embedded broker")
QUEUE_AGE = Gauge("fuseml_queue_oldest_seconds", "Age of the oldest event that is not delivered everywhere; 0 if there is none")
DEAD = Gauge("fuseml_dead_letters", "Deliveries of the embedded broker that were given up")
OUTBOX = Gauge("fuseml_outbox_depth", "Events that are committed and not yet published")
OUTBOX_AGE = Gauge("fuseml_outbox_oldest_seconds", "Age of the oldest event that is not yet published; 0 if there is none")
RUNS = Gauge("fuseml_runs", "Runs that have not finished", ("state",))

READ: tuple[Gauge, ...] = (REACHABLE, QUEUE, QUEUE_AGE, DEAD, OUTBOX, OUTBOX_AGE, RUNS)
"""Everything that is read from the store."""


def answer(store: database.Database | None) -> tuple[bytes, str]:
    """The text of a scrape and its content type; with the store's readings where one is given."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    prometheus_client.ProcessCollector(registry=registry)
    registry.register(_Collector(store))
    return prometheus_client.generate_latest(registry), prometheus_client.CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, store: database.Database | None) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        for counted in metrics.COUNTED:
            yield counted.collect()
        if self._store is not None:
            yield from _readings(self._store)


def _readings(store: database.Database) -> Iterator[Metric]:
    # Only here: every function imports this module, and few of them need the queue and its dialects of SQL.
    from fuseml.store import deliveries, outbox, runs

    try:
        with store.read() as session:
            values: dict[Gauge, float] = {
                QUEUE: deliveries.count(session, "pending"),
                QUEUE_AGE: _age(deliveries.oldest_pending(session)),
                DEAD: deliveries.count(session, "dead"),
                OUTBOX: outbox.depth(session),
                OUTBOX_AGE: _age(outbox.oldest(session)),
            }
            unfinished = runs.count_active(session)
    except errors.TemporaryError:
        # Whoever scrapes must hear of this, and of everything else.
        yield REACHABLE.collect([((), 0)])
        return
    yield REACHABLE.collect([((), 1)])
    for gauge, value in values.items():
        yield gauge.collect([((), value)])
    yield RUNS.collect(((state,), count) for state, count in unfinished.items())


def _age(moment: str | None) -> float:
    return max(0.0, time.time() - times.unix(moment)) if moment else 0.0
