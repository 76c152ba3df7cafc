"""Time from the start of a function's process to its first response, as in its pod. Baseline: a hello world of functions-framework.

    python -m tests.bench.bench_cold_start [FUNCTION ...]

Each start runs gunicorn with the image's configuration. The first response is that of the readiness probe, which creates the application
and connects to the database.
CPU time is that of all processes of the function up to the response; the budget is 300 ms over hello world. The functions are started in
turns, so that other load on the machine affects all alike. The fastest start of each counts.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.runtime import auth, catalog, secrets
from fuseml.store import database
from tests import event_keys

ROOT = pathlib.Path(__file__).parents[2]
ROUNDS = 5
BUDGET_MS = 300.0
BASELINE = "hello world"
HELLO = "def handle(request):\n    return 'hello'\n"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Start:
    """CPU and wall time until the first response, in milliseconds."""

    cpu: float
    wall: float


def cpu_of(group: int) -> float:
    """CPU time of a process group in milliseconds, including its children that have ended."""
    ticks = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks * 1000 / _TICKS


def start(source: pathlib.Path, settings: Mapping[str, str], cache: pathlib.Path) -> Start:
    """Start a function once. Raises RuntimeError with its output if it does not respond."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "shared"))),
        # The image holds the bytecode; here the first round writes it.
        "PYTHONPYCACHEPREFIX": str(cache),
        "FUNCTION_SOURCE": str(source),
        "FUNCTION_TARGET": "handle",
        "PORT": str(port),
        **settings,
    }
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        str(ROOT / "infra/images/gunicorn.conf.py"),
        "functions_framework:create_app()",
    ]
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_response(f"http://127.0.0.1:{port}/readyz", process)
            return Start(cpu_of(process.pid), (time.perf_counter() - started) * 1000)
        except TimeoutError:
            log.seek(0)
            raise RuntimeError(f"{source} does not respond:\n{log.read().decode()}") from None
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_response(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    raise TimeoutError


def settings_in(folder: pathlib.Path) -> Mapping[str, str]:
    """The environment of every function on a cluster, with a migrated database."""
    url = f"sqlite:///{folder / 'fuseml.db'}"
    store = database.Database(url)
    store.migrate()
    store.close()
    return {
        "FUSEML_DATABASE_URL": url,
        "K_SINK": "http://127.0.0.1:9/fuseml/fuseml",
        "FUSEML_SECRET_KEYS": secrets.new_key(),
        "FUSEML_EVENT_KEYS": ",".join(event_keys.KEYS),
        "FUSEML_TOKEN_HASHES": f"admin:{auth.digest_of('bench')}",
        "FUSEML_PUBLIC_URL": "http://127.0.0.1:9",
        "FUSEML_GIT_URL": "http://127.0.0.1:9",
        "FUSEML_GIT_TOKEN": "bench",
    }


def main(names: list[str]) -> int:
    """Print a Markdown table; docs/deployment.md has its third column. Returns 1 if a function is over the budget."""
    functions = {function.name: ROOT / "functions" / function.name / "main.py" for function in (*catalog.FUNCTIONS, catalog.GATEWAY)}
    measured = {name: functions[name] for name in names or functions}
    with tempfile.TemporaryDirectory() as folder:
        hello = pathlib.Path(folder, "hello.py")
        hello.write_text(HELLO)
        settings = settings_in(pathlib.Path(folder))
        sources = {BASELINE: hello, **measured}
        starts: dict[str, list[Start]] = {name: [] for name in sources}
        for _ in range(ROUNDS):
            for name, source in sources.items():
                starts[name].append(start(source, settings, pathlib.Path(folder, "bytecode")))
    best = {name: Start(min(one.cpu for one in several), min(one.wall for one in several)) for name, several in starts.items()}
    base = best[BASELINE]
    print("| function | CPU ms | over hello world | wall ms | over hello world |\n|---|---|---|---|---|")
    for name, fastest in best.items():
        print(f"| {name} | {fastest.cpu:.0f} | {fastest.cpu - base.cpu:+.0f} | {fastest.wall:.0f} | {fastest.wall - base.wall:+.0f} |")
    over = [name for name, fastest in best.items() if fastest.cpu - base.cpu > BUDGET_MS]
    print(f"over the budget of {BUDGET_MS:.0f} ms CPU: {', '.join(over)}" if over else f"all within {BUDGET_MS:.0f} ms CPU of hello world")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
