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
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field

import flask

from functions.artifacts import app as artifacts_app
from functions.dispatcher import app as dispatcher_app
from functions.gitea_ingress import app as gitea_ingress_app
from fuseml import engines
from fuseml.domain import document as documents
from fuseml.domain import events, plan, workflow
from fuseml.embedded import broker, composition, gateway, redelivery, triggers
from fuseml.githosts import embedded as embedded_git
from fuseml.runtime import auth, clock, secrets
from fuseml.store import codesets, database, tables, workflows
from tests.bench import bench_server

COUNT = 2_000
SENDERS = 2
SECRET = "s3cret"
TAKERS = {"artifacts", "dispatcher"}


@dataclass
class Nothing:
    """The engine: takes plans, and remembers when."""

    submitted: dict[str, float] = field(default_factory=dict)

    def submit(self, plan: plan.Plan, secrets: Mapping[str, str]) -> None:
        self.submitted.setdefault(plan.id, time.perf_counter())

    def cancel(self, run_id: str, reason: str) -> None:
        """Nothing runs."""

    def observe(self, run_id: str) -> Sequence[events.Event]:
        return []

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        return engines.LogChunk(b"", 0, complete=True)


class Backbone:
    """The four parts over one database, as `fuseml up` joins them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.store = database.Database(f"sqlite:///{folder / 'fuseml.db'}")
        self.store.migrate()
        self.keyring = secrets.Keyring([secrets.new_key()])
        self.engine = Nothing()
        contract = composition.contract_folder()
        wanted = triggers.load(contract / "triggers", redelivery.of_broker(contract / "broker.yaml"))
        functions: dict[str, flask.Flask] = {}
        subscribers = {name: _subscriber(functions, name) for name in TAKERS}
        self.queue = broker.Broker(self.store, [trigger for trigger in wanted if trigger.subscriber in TAKERS], subscribers)
        functions["artifacts"] = artifacts_app.create_app(
            artifacts_app.Deps(store=self.store, publisher=self.queue, tokens=auth.Tokens({}, anonymous=True))
        )
        git = embedded_git.EmbeddedGitHost(folder, "http://127.0.0.1:1/git")
        functions["dispatcher"] = dispatcher_app.create_app(
            dispatcher_app.Deps(
                store=self.store, publisher=self.queue, git=git, engine=self.engine, keyring=self.keyring, zone="", namespace="bench"
            )
        )
        self.ingress = gitea_ingress_app.create_app(gitea_ingress_app.Deps(store=self.store, publisher=self.queue, keyring=self.keyring))
        self._register()

    def _register(self) -> None:
        moment = clock.now()
        document = documents.load(workflow.Workflow, bench_server.WORKFLOW)
        with self.store.write() as session:
            codesets.ensure_project(session, "p", moment)
            sealed = self.keyring.seal(SECRET)
            codesets.add_codeset(session, tables.Codeset(project="p", name="code", url="http://x", webhook_secret=sealed, created=moment))
            workflows.add(session, document.name, document.model_dump(mode="json", by_alias=True), moment)
            workflows.assign(session, "bench", document.name, "code://p/code", moment)

    def take(self, body: bytes, headers: Mapping[str, str]) -> int:
        return gateway.call(self.ingress, "POST", "/webhooks/gitea", headers, body).status


def _subscriber(functions: Mapping[str, flask.Flask], name: str) -> broker.Subscriber:
    return lambda headers, body: gateway.call(functions[name], "POST", "/", headers, body)


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

    return lambda body, headers: gateway.call(app, "POST", "/", headers, body).status


def measured(take: Callable[[bytes, Mapping[str, str]], int], count: int) -> list[float]:
    """Milliseconds of each of `count` webhooks, from `SENDERS` threads."""

    def send(number: int) -> float:
        body, headers, _ = bench_server.webhook(SECRET, number)
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

        backbone = Backbone(path)
        backbone.queue.start()
        try:
            quiet(backbone, baseline)
            flood(backbone, count, baseline, cpu_baseline)
        finally:
            backbone.queue.stop()


def quiet(backbone: Backbone, baseline: list[float]) -> None:
    """One push after the other: what somebody who pushes waits for."""
    accepted, submitted = [], []
    for number in range(220):
        known = len(backbone.engine.submitted)
        begun = time.perf_counter()
        body, headers, _ = bench_server.webhook(SECRET, -1 - number)
        assert backbone.take(body, headers) == 202
        accepted.append((time.perf_counter() - begun) * 1000)
        while len(backbone.engine.submitted) == known:
            time.sleep(0.0005)
        submitted.append((max(backbone.engine.submitted.values()) - begun) * 1000)
        while backbone.queue.depth:
            time.sleep(0.0005)
    told("webhook accepted", accepted[20:], baseline, "budget p99 20 ms")
    told("push to submitted", submitted[20:], baseline, "budget p95 500 ms")


def flood(backbone: Backbone, count: int, baseline: list[float], cpu_baseline: float) -> None:
    """As many as come in: the queue grows, the memory must not."""
    known = len(backbone.engine.submitted)
    memory: list[float] = []
    deepest = 0
    wall, cpu = time.perf_counter(), time.process_time()
    accepted: list[float] = []
    for part in range(10):
        accepted += measured(backbone.take, count // 10)
        deepest = max(deepest, backbone.queue.depth)
        memory.append(bench_server.rss(os.getpid()))
        print(f"{'':28} {(part + 1) * count // 10:7d} accepted, {backbone.queue.depth:6d} deliveries wait, {memory[-1]:.0f} MB", flush=True)
    taken, taken_cpu = time.perf_counter() - wall, time.process_time() - cpu
    while backbone.queue.depth or len(backbone.engine.submitted) < known + count // 10 * 10:
        time.sleep(0.01)
    rate("webhooks accepted, flooded", len(accepted), taken, taken_cpu, cpu_baseline)
    rate("webhook to run, all through", len(accepted), time.perf_counter() - wall, time.process_time() - cpu, cpu_baseline)
    told("webhook accepted, flooded", accepted, baseline)
    memory.append(bench_server.rss(os.getpid()))
    print(f"{'memory':28} {memory[0]:.0f} MB after a tenth, {memory[-1]:.0f} MB in the end; {deepest} deliveries waited at most")


if __name__ == "__main__":
    main()
