"""From the start of a function's process to its first answer, as in its pod, against a hello world of functions-framework in the same run.

    python -m tests.bench.bench_cold_start [FUNCTION ...]

Each start is gunicorn with the image's own configuration; the first answer is that of the readiness probe, which makes the whole application.
The budget is 300 ms of CPU over hello world. CPU is that of all processes of the function when it has answered; the starts of
all take turns, so that what else the machine does meets all alike, and of each the quietest start counts.
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

ROOT = pathlib.Path(__file__).parents[2]
ROUNDS = 5
BUDGET_MS = 300.0
BASELINE = "hello world"
HELLO = "def handle(request):\n    return 'hello'\n"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Start:
    """Milliseconds until the first answer."""

    cpu: float
    wall: float


def cpu_of(group: int) -> float:
    """Milliseconds of CPU that the processes of a group have used so far, those that they have waited for included."""
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
    """Start a function once. Raises RuntimeError with what it wrote when it does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "shared"))),
        # As in the image, where the bytecode is made with it; the first round makes it here.
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
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            _answer(f"http://127.0.0.1:{port}/healthz", process)
            return Start(cpu_of(process.pid), (time.perf_counter() - began) * 1000)
        except TimeoutError:
            log.seek(0)
            raise RuntimeError(f"{source} does not answer:\n{log.read().decode()}") from None
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    raise TimeoutError


def settings_in(folder: pathlib.Path) -> Mapping[str, str]:
    """What every function finds on a cluster, with a database that has its schema."""
    url = f"sqlite:///{folder / 'fuseml.db'}"
    store = database.Database(url)
    store.migrate()
    store.close()
    return {
        "FUSEML_DATABASE_URL": url,
        "K_SINK": "http://127.0.0.1:9/fuseml/fuseml",
        "FUSEML_SECRET_KEYS": secrets.new_key(),
        "FUSEML_TOKEN_HASHES": f"admin:{auth.digest_of('bench')}",
        "FUSEML_PUBLIC_URL": "http://127.0.0.1:9",
        "FUSEML_GIT_URL": "http://127.0.0.1:9",
        "FUSEML_GIT_TOKEN": "bench",
    }


def main(names: list[str]) -> int:
    """Print a table as the README has it. Returns 1 when a function is over the budget."""
    functions = {function.name: ROOT / "functions" / function.name / "main.py" for function in (*catalog.FUNCTIONS, catalog.GATEWAY)}
    chosen = {name: functions[name] for name in names or functions}
    with tempfile.TemporaryDirectory() as folder:
        hello = pathlib.Path(folder, "hello.py")
        hello.write_text(HELLO)
        settings = settings_in(pathlib.Path(folder))
        sources = {BASELINE: hello, **chosen}
        starts: dict[str, list[Start]] = {name: [] for name in sources}
        for _ in range(ROUNDS):
            for name, source in sources.items():
                starts[name].append(start(source, settings, pathlib.Path(folder, "bytecode")))
    best = {name: Start(min(one.cpu for one in found), min(one.wall for one in found)) for name, found in starts.items()}
    base = best[BASELINE]
    print("| function | CPU ms | over hello world | wall ms | over hello world |\n|---|---|---|---|---|")
    for name, found in best.items():
        print(f"| {name} | {found.cpu:.0f} | {found.cpu - base.cpu:+.0f} | {found.wall:.0f} | {found.wall - base.wall:+.0f} |")
    over = [name for name, found in best.items() if found.cpu - base.cpu > BUDGET_MS]
    print(f"over the budget of {BUDGET_MS:.0f} ms CPU: {', '.join(over)}" if over else f"all within {BUDGET_MS:.0f} ms CPU of hello world")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
