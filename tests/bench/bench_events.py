"""Load on the event backbone: webhook -> gitea_ingress -> broker -> dispatcher (and artifacts), with an engine that does nothing.

    python -m tests.bench.bench_events [COUNT]        (2,000 webhooks; 50,000 show that memory does not follow the number of events)

One process, no sockets: each webhook is a request to the ingress, as `fuseml up` makes it. Senders are as many threads as a git host
has workers. Baseline of the same run: the same bytes to a bare Flask route that writes one SQLite row.
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
SENDERS = 2
SECRET = "s3cret"
TAKERS = {"artifacts", "dispatcher"}


def bare(folder: pathlib.Path) -> Callable[[bytes, Mapping[str, str]], int]:
    """A Flask application whose only route writes one row."""
    app = flask.Flask("bare")
    connection = sqlite3.connect(folder / "bare.db", check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE told (body TEXT)")
    turn = threading.Lock()

    @app.post("/")
    def take() -> tuple[dict[str, str], int]:
        with turn, connection:
            connection.execute("INSERT INTO told VALUES (?)", (flask.request.get_data(as_text=True),))
        return {}, 202

    return lambda body, headers: mount.call(app, "POST", "/", headers, body).status


def measured(take: Callable[[bytes, Mapping[str, str]], int], count: int) -> list[float]:
    """Milliseconds of each of `count` webhooks, from `SENDERS` threads."""

    def send(number: int) -> float:
        body, headers, _ = bench_server.webhook(backbone.SECRET, number)
        begun = time.perf_counter()
        assert take(body, headers) == 202
        return (time.perf_counter() - begun) * 1000

    with futures.ThreadPoolExecutor(SENDERS) as pool:
        return list(pool.map(send, range(count)))


def told(name: str, values: list[float], baseline: list[float], budget: str = "") -> None:
    ratio = statistics.median(values) / statistics.median(baseline)
    print(
        f"{name:28} p50 {statistics.median(values):7.2f} ms  p95 {bench_server.percentile(values, 0.95):7.2f}"
        f"  p99 {bench_server.percentile(values, 0.99):7.2f}  {ratio:5.1f} times the bare route   {budget}"
    )


def rate(name: str, count: int, wall: float, cpu: float, cpu_baseline: float) -> None:
    print(
        f"{name:28} {count / wall:7.0f} a second, {count / cpu:7.0f} a second and core, {cpu / count / cpu_baseline:5.1f} times the bare route's CPU"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        bare_take = bare(path)
        measured(bare_take, 50)
        cpu = time.process_time()
        baseline = measured(bare_take, min(count, 2000))
        cpu_baseline = (time.process_time() - cpu) / len(baseline)
        told("bare route", baseline, baseline)

        joined = backbone.Backbone(path)
        joined.queue.start()
        try:
            quiet(joined, baseline)
            flood(joined, count, baseline, cpu_baseline)
        finally:
            joined.queue.stop()


def quiet(joined: backbone.Backbone, baseline: list[float]) -> None:
    """One push after the other: what somebody who pushes waits for."""
    accepted, submitted = [], []
    for number in range(220):
        known = len(joined.engine.submitted)
        begun = time.perf_counter()
        body, headers, _ = bench_server.webhook(backbone.SECRET, -1 - number)
        assert joined.take(body, headers) == 202
        accepted.append((time.perf_counter() - begun) * 1000)
        while len(joined.engine.submitted) == known:
            time.sleep(0.0005)
        submitted.append((max(joined.engine.submitted.values()) - begun) * 1000)
        while joined.queue.depth:
            time.sleep(0.0005)
    told("webhook accepted", accepted[20:], baseline, "budget p99 20 ms")
    told("push to submitted", submitted[20:], baseline, "budget p95 500 ms")


def flood(joined: backbone.Backbone, count: int, baseline: list[float], cpu_baseline: float) -> None:
    """As many as come in: the queue grows, the memory must not."""
    known = len(joined.engine.submitted)
    memory: list[float] = []
    deepest = 0
    wall, cpu = time.perf_counter(), time.process_time()
    accepted: list[float] = []
    for part in range(10):
        accepted += measured(joined.take, count // 10)
        deepest = max(deepest, joined.queue.depth)
        memory.append(bench_server.rss(os.getpid()))
        print(f"{'':28} {(part + 1) * count // 10:7d} accepted, {joined.queue.depth:6d} deliveries wait, {memory[-1]:.0f} MB", flush=True)
    taken, taken_cpu = time.perf_counter() - wall, time.process_time() - cpu
    while joined.queue.depth or len(joined.engine.submitted) < known + count // 10 * 10:
        time.sleep(0.01)
    rate("webhooks accepted, flooded", len(accepted), taken, taken_cpu, cpu_baseline)
    rate("webhook to run, all through", len(accepted), time.perf_counter() - wall, time.process_time() - cpu, cpu_baseline)
    told("webhook accepted, flooded", accepted, baseline)
    memory.append(bench_server.rss(os.getpid()))
    print(f"{'memory':28} {memory[0]:.0f} MB after a tenth, {memory[-1]:.0f} MB in the end; {deepest} deliveries waited at most")


if __name__ == "__main__":
    main()
