"""Load on the events' path: webhook -> gitea_ingress -> broker -> dispatcher (and artifacts), with an engine that runs nothing.

    python -m tests.bench.bench_events [COUNT]        (2,000 webhooks; 50,000 show that memory does not grow with the number of events)

One process without sockets: each webhook is a direct call of the ingress, as `fuseml up` makes it, from as many threads as a git host
has workers. Baseline: the same bytes to a bare Flask route that writes one SQLite row.
"""

from __future__ import annotations

import os
import pathlib
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures

import flask

from fuseml.embedded import mount
from tests.bench import bench_server
from tests.component import backbone

COUNT = 2_000
SINGLE = 220
SENDERS = 2


def bare(folder: pathlib.Path) -> Callable[[bytes, Mapping[str, str]], int]:
    """A Flask application whose only route writes one row."""
    app = flask.Flask("bare")
    connection = sqlite3.connect(folder / "bare.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE webhook (body TEXT)")
    lock = threading.Lock()

    @app.post("/")
    def receive() -> tuple[dict[str, str], int]:
        with lock, connection:
            connection.execute("INSERT INTO webhook VALUES (?)", (flask.request.get_data(as_text=True),))
        return {}, 202

    return lambda body, headers: mount.call(app, "POST", "/", headers, body).status


def measure(receive: Callable[[bytes, Mapping[str, str]], int], pushes: range) -> list[float]:
    """The duration of the webhook of each of these pushes from `SENDERS` threads, in milliseconds."""

    def send(number: int) -> float:
        body, headers, _ = bench_server.webhook(backbone.SECRET, number)
        started = time.perf_counter()
        assert receive(body, headers) == 202
        return (time.perf_counter() - started) * 1000

    with futures.ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(send, pushes))


def print_durations(name: str, values: list[float], baseline: list[float], budget: str = "") -> None:
    ratio = statistics.median(values) / statistics.median(baseline)
    print(
        f"{name:28} p50 {statistics.median(values):7.2f} ms  p95 {bench_server.percentile(values, 0.95):7.2f}"
        f"  p99 {bench_server.percentile(values, 0.99):7.2f}  {ratio:5.1f} times the bare route   {budget}"
    )


def print_rate(name: str, count: int, wall: float, cpu: float, cpu_baseline: float) -> None:
    print(
        f"{name:28} {count / wall:7.0f} a second, {count / cpu:7.0f} a second and core, {cpu / count / cpu_baseline:5.1f} times the bare route's CPU"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        bare_route = bare(path)
        measure(bare_route, range(50))
        cpu = time.process_time()
        baseline = measure(bare_route, range(min(count, 2000)))
        cpu_baseline = (time.process_time() - cpu) / len(baseline)
        print_durations("bare route", baseline, baseline)

        joined = backbone.Backbone(path)
        joined.queue.start()
        try:
            measure_latency(joined, baseline)
            measure_throughput(joined, count, baseline, cpu_baseline)
        finally:
            joined.queue.stop()


def measure_latency(joined: backbone.Backbone, baseline: list[float]) -> None:
    """Single pushes, each after the previous one has been handled."""
    accepted, submitted = [], []
    for number in range(SINGLE):
        before = len(joined.engine.submitted)
        started = time.perf_counter()
        body, headers, _ = bench_server.webhook(backbone.SECRET, number)
        assert joined.take(body, headers) == 202
        accepted.append((time.perf_counter() - started) * 1000)
        while len(joined.engine.submitted) == before:
            time.sleep(0.0005)
        submitted.append((max(joined.engine.submitted.values()) - started) * 1000)
        while joined.queue.depth:
            time.sleep(0.0005)
    print_durations("webhook accepted", accepted[20:], baseline, "budget p99 20 ms")
    print_durations("push to submitted", submitted[20:], baseline, "budget p95 500 ms")


def measure_throughput(joined: backbone.Backbone, count: int, baseline: list[float], cpu_baseline: float) -> None:
    """Pushes without a pause: the queue grows, the memory must not."""
    before = len(joined.engine.submitted)
    memory: list[float] = []
    deepest = 0
    wall, cpu = time.perf_counter(), time.process_time()
    accepted: list[float] = []
    for part in range(10):
        first = SINGLE + part * (count // 10)
        accepted += measure(joined.take, range(first, first + count // 10))
        deepest = max(deepest, joined.queue.depth)
        memory.append(bench_server.rss(os.getpid()))
        print(
            f"{'':28} {(part + 1) * count // 10:7d} accepted, {joined.queue.depth:6d} deliveries waiting, {memory[-1]:.0f} MB", flush=True
        )
    accept_wall, accept_cpu = time.perf_counter() - wall, time.process_time() - cpu
    while joined.queue.depth or len(joined.engine.submitted) < before + count // 10 * 10:
        time.sleep(0.01)
    print_rate("webhooks accepted under load", len(accepted), accept_wall, accept_cpu, cpu_baseline)
    print_rate("webhooks to runs, in total", len(accepted), time.perf_counter() - wall, time.process_time() - cpu, cpu_baseline)
    print_durations("webhook accepted under load", accepted, baseline)
    memory.append(bench_server.rss(os.getpid()))
    print(f"{'memory':28} {memory[0]:.0f} MB after a tenth, {memory[-1]:.0f} MB at the end; at most {deepest} deliveries waiting")


if __name__ == "__main__":
    main()
