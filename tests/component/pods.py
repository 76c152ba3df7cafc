"""Functions as run by a cluster: one process each, gunicorn with the image's configuration, settings in the environment."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import urllib3

from fuseml.embedded import broker
from tests.waiting import PATIENCE, wait_until_ready

ROOT = pathlib.Path(__file__).parents[2]
# The timeout of a trigger.
_RESPONSE_SECONDS = 30.0


class Pod:
    """One process of a function with a fixed address; its output is in `log`.

    `arguments` are additional arguments of gunicorn.
    """

    def __init__(self, function: str, environment: Mapping[str, str], log: pathlib.Path) -> None:
        self.function, self.log, self.arguments = function, log, tuple[str, ...]()
        # Bound without listening: it reserves the port while the process is dead, and connections are refused then.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        # No other variables are inherited: an unknown setting would be rejected.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        source = {"FUNCTION_SOURCE": f"functions/{function}/main.py", "FUNCTION_TARGET": "handle"}
        self._environment = {**inherited, **source, "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}", **environment}
        self._pool = urllib3.PoolManager(retries=False, maxsize=20)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; `wait` blocks until it responds."""
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "infra/images/gunicorn.conf.py"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*gunicorn, "--bind", f"127.0.0.1:{self.port}", "--reuse-port", *self.arguments, "functions_framework:create_app()"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Block until it responds."""
        assert self._process is not None
        wait_until_ready(self._process, self._responds, self.function, self.log.read_text)

    def _responds(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.send("GET", "/healthz", timeout=PATIENCE).status == 200
        return False

    def kill(self) -> None:
        """Kill it with all its processes, as the loss of a node does."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM, as a cluster does before SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float) -> int:
        """Wait for the exit code. Raises TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(seconds)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._pool.clear()
        self._held.close()

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, timeout: float = _RESPONSE_SECONDS
    ) -> broker.Answer:
        """Send a request. Raises urllib3's HTTPError without a response."""
        response = self._pool.request(
            method, f"http://127.0.0.1:{self.port}{path}", body=body, headers=dict(headers or {}), timeout=timeout
        )
        return broker.Answer(response.status, dict(response.headers), response.data)


class Pods:
    """The processes of several functions, `each` processes of each function."""

    def __init__(self, functions: Sequence[str], each: int, environment: Mapping[str, str], logs: pathlib.Path) -> None:
        self.of = {
            function: [Pod(function, environment, logs / f"{function}-{number}.log") for number in range(each)] for function in functions
        }

    @property
    def all(self) -> list[Pod]:
        return [pod for pods in self.of.values() for pod in pods]

    def send(self, function: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> broker.Answer:
        """Send a request to a random process of the function, even to a dead one. Raises urllib3's HTTPError without a response."""
        return random.choice(self.of[function]).send(method, path, body, headers)


@contextlib.contextmanager
def running(functions: Sequence[str], each: int, environment: Mapping[str, str], logs: pathlib.Path) -> Iterator[Pods]:
    """Running processes, until the end of the block."""
    logs.mkdir()
    pods = Pods(functions, each, environment, logs)
    try:
        for pod in pods.all:
            pod.start()
        for pod in pods.all:
            pod.wait()
        yield pods
    finally:
        for pod in pods.all:
            pod.close()
