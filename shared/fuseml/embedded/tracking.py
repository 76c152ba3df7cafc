"""The embedded MLflow: its own server process with an SQL back end, supervised, delivering signed webhooks to `mlflow_ingress`."""

from __future__ import annotations

import importlib.util
import logging
import pathlib
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import urllib3

from fuseml.contents import mlflow
from fuseml.domain import errors
from fuseml.embedded import child_process
from fuseml.runtime import secrets

_log = logging.getLogger("fuseml.mlflow")
_START_SECONDS = 180
# Interval of looks at the webhook's secret, which may be rotated; the old one stays valid much longer.
_SECRET_SECONDS = 5.0
EXTENSION = "mlflow"
"""The extension id under which its webhooks arrive, and under which people register it."""


@dataclass(frozen=True, slots=True)
class Status:
    """Its component in `/readyz`."""

    status: Literal["off", "starting", "ready", "failed"]
    url: str | None = None
    message: str | None = None


class TrackingServer:
    """Starts in the background; a server that ends is started again, with growing pauses."""

    def __init__(
        self, home: pathlib.Path, *, webhook_url: str, webhook_secret: Callable[[], str], environment: Mapping[str, str], mode: str
    ) -> None:
        """`mode` is auto (run a server if the package is installed), none, or the URL of an existing server.

        `webhook_secret` is called periodically, because the secret may be rotated.
        """
        self._inherited = dict(environment)
        self._folder, self._webhook_url, self._webhook_secret = home / "mlflow", webhook_url, webhook_secret
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._mode = mode
        self.state = Status("off") if mode in ("auto", "none") else Status("ready", mode)

    def start(self) -> None:
        """Start in the background; `state` follows the progress."""
        if self._mode != "auto":
            return
        if importlib.util.find_spec("mlflow") is None:
            self.state = Status("off", message="the package is not installed; `pip install 'fuseml[mlflow]'` brings it")
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self.state = Status("starting")
        self._thread = threading.Thread(target=self._supervise, name="mlflow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the server and wait for it."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _supervise(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            try:
                self._run_once()
                pause = 1.0
            except (errors.FusemlError, OSError) as error:
                self.state = Status("failed", message=str(error))
                _log.error("MLflow: %s", error)
                pause = min(60.0, pause * 2)
            self._stopping.wait(pause)

    def _run_once(self) -> None:
        port = self._port()
        url = f"http://127.0.0.1:{port}"
        self.state = Status("starting", url)
        log = self._folder / "server.log"
        child = child_process.SupervisedProcess(self._command(port), env=self._environment(), cwd=self._folder, log=log)
        try:
            self._wait_until_ready(child, url, log)
            secret = self._register_webhook(url, None)
            self.state = Status("ready", url)
            checked = time.monotonic()
            while child.running and not self._stopping.wait(1.0):
                if time.monotonic() - checked > _SECRET_SECONDS:
                    secret, checked = self._register_webhook(url, secret), time.monotonic()
            if not self._stopping.is_set():
                raise errors.TemporaryError(f"the MLflow server ended unexpectedly: {child_process.tail(log)}")
        finally:
            child.stop()

    def _register_webhook(self, url: str, registered: str | None) -> str:
        """Register the webhook with the current secret, if it is not the registered one."""
        secret = self._webhook_secret()
        if secret != registered:
            mlflow.Tracking(url).ensure_webhook("fuseml", self._webhook_url, secret)
        return secret

    def _wait_until_ready(self, child: child_process.SupervisedProcess, url: str, log: pathlib.Path) -> None:
        pool = urllib3.PoolManager(retries=False)
        for _ in range(_START_SECONDS * 5):
            if self._stopping.wait(0.2) or not child.running:
                raise errors.TemporaryError(f"the MLflow server did not start: {child_process.tail(log)}")
            try:
                if pool.request("GET", f"{url}/health", timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                continue
        raise errors.TemporaryError(f"the MLflow server was not ready after {_START_SECONDS} seconds: {child_process.tail(log)}")

    def _port(self) -> int:
        # Records of the registry hold the address, so the port must survive a restart.
        file = self._folder / "port"
        if file.exists():
            port = int(file.read_text())
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise errors.TemporaryError(
                        f"port {port} of the former MLflow server is in use by another process; end that process, or delete {file} "
                        "and register the new address"
                    ) from error
            return port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        file.write_text(f"{port}\n")
        return port

    def _command(self, port: int) -> list[str]:
        database = f"sqlite:///{self._folder / 'mlflow.db'}"
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", database, "--artifacts-destination", str(self._folder / "artifacts")),
        ]

    def _scratch(self) -> pathlib.Path:
        """An empty folder for temporary files."""
        folder = self._folder / "tmp"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _environment(self) -> dict[str, str]:
        key = secrets.read_or_create(self._folder / "webhook-key", secrets.new_key())
        return {
            **self._inherited,
            "TMPDIR": str(self._scratch()),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # One runner and seven consumers of unused jobs: 1.5 GB.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # Webhooks go to this process on loopback, which MLflow refuses by default; the key must survive a restart
            # (infra/platform-facts.md 1.5).
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key,
            "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        }
