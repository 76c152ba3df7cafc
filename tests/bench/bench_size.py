"""The registry API while the housekeeper sweeps: requests at 10,000 records whose endpoints are dead, against a registry of ten.

    python -m tests.bench.bench_size

One process, as the embedded server, on SQLite: a thread sweeps once a second, and requests are answered meanwhile. Measured is the processor
time of the answering thread; the bound is three times that at ten records, in the median. Times by the clock are printed only.
"""

from __future__ import annotations

import functools
import itertools
import logging
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from functions.housekeeper import service as housekeeper
from functions.resolver import app as resolver
from functions.resolver import deps as resolver_deps
from fuseml.domain import events
from fuseml.domain.registry import extension
from fuseml.runtime import auth, clock
from fuseml.store import extensions
from tests.bench.bench_resolve import TEN, document
from tests.component.test_health import Installation

RECORDS = (10, 10_000)
ROUNDS = 30
PAUSE = 1.0
MOST = 3.0


def fill(installation: Installation, count: int) -> None:
    """Register tools whose endpoints refuse connections."""
    for begin in range(0, count, 1000):
        with installation.registry.store.write() as session:
            for number in range(begin, min(begin + 1000, count)):
                record = extension.Extension.model_validate(document(number))
                services = tuple(
                    service.model_copy(
                        update={
                            "credentials": (),
                            "endpoints": tuple(
                                endpoint.model_copy(update={"url": f"http://127.0.0.1:{1 + position}/{number}/{service.id}"})
                                for position, endpoint in enumerate(service.endpoints)
                            ),
                        }
                    )
                    for service in record.services
                )
                extensions.add(session, record.model_copy(update={"services": services}), clock.now())


def sweep(installation: Installation, ended: threading.Event, ticks: list[float]) -> None:
    """Sweep until the end, and note the seconds of each."""
    deps = installation.deps(interval=300)
    for number in itertools.count():
        begin = time.monotonic()
        housekeeper.sweep(deps, events.Event(events.TICK, "/bench", f"tick-{number}", None, clock.now(), {}))
        ticks.append(time.monotonic() - begin)
        if ended.wait(PAUSE):
            return


def requests(client: FlaskClient, resolve: FlaskClient) -> dict[str, Callable[[int], Any]]:
    """The measured requests, by name."""
    return {
        "get": lambda _: client.get("/extensions/extension-00007"),
        "list ten": lambda _: client.get("/extensions?limit=10"),
        "register": lambda number: client.post("/extensions", json={"id": f"new-{number}", "services": [{"id": "api"}]}),
        "resolve ten": lambda _: resolve.post("/resolve", json={"selectors": list(TEN)}),
    }


def measure(folder: pathlib.Path, count: int) -> tuple[dict[str, list[tuple[float, float]]], list[float]]:
    """Milliseconds of each request, of the processor and by the clock, and seconds of each sweep."""
    installation = Installation(folder)
    fill(installation, count)
    deps = resolver_deps.Deps(store=installation.registry.store, tokens=auth.Tokens({}, anonymous=True), zone="")
    calls = requests(installation.registry.client, resolver.create_app(deps).test_client())
    ended, ticks = threading.Event(), list[float]()
    sweeper = threading.Thread(target=functools.partial(sweep, installation, ended, ticks))
    sweeper.start()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    try:
        for number in range(ROUNDS):
            for name, call in calls.items():
                begin, used = time.perf_counter(), time.thread_time()
                answer = call(number)
                found[name].append(((time.thread_time() - used) * 1e3, (time.perf_counter() - begin) * 1e3))
                assert answer.status_code < 500, answer.text
    finally:
        ended.set()
        sweeper.join()
    installation.registry.store.close()
    return found, ticks


def main() -> None:
    logging.disable(logging.CRITICAL)
    found, ticks = {}, {}
    for count in RECORDS:
        with tempfile.TemporaryDirectory() as folder:
            found[count], ticks[count] = measure(pathlib.Path(folder), count)
        print(f"{count} records: {len(ticks[count])} sweeps, longest {max(ticks[count], default=0):.2f} s")
    few, many = (found[count] for count in RECORDS)
    for name in few:
        (used_few, clock_few), (used_many, clock_many) = (zip(*times[name], strict=True) for times in (few, many))
        ratio = statistics.median(used_many) / statistics.median(used_few)
        p99 = [statistics.quantiles(times, n=100)[98] for times in (clock_few, clock_many)]
        print(
            f"{name}: {statistics.median(used_few):.2f} and {statistics.median(used_many):.2f} ms of processor, ratio {ratio:.2f}; "
            f"p99 by the clock {p99[0]:.1f} and {p99[1]:.1f} ms"
        )
        assert ratio < MOST, f"{name} depends on the size of the registry"


if __name__ == "__main__":
    main()
