"""The embedded MLflow: its own server process with an SQL back end, supervised, delivering signed webhooks to `mlflow_ingress`.

It listens at a socket file that only this user can open, and answers only requests with a key that this process makes anew at each start
(`tracking_app`). Everything else reaches it through this server (`tracking_proxy`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import pathlib
import secrets as random_secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import urllib3

from fuseml.contents import mlflow
from fuseml.domain import errors
from fuseml.embedded import access, child_process, tracking_app, tracking_proxy, upstream
from fuseml.runtime import secrets
from fuseml.runtime.telemetry import logs
from fuseml.runtime.telemetry.conditions import Conditions

_log = logging.getLogger("fuseml.mlflow")
_START_SECONDS = 180
# For the supervisor to notice that the server has ended.
_JOIN_SECONDS = 2.0
# Interval of looks at the webhook's secret, which may be rotated; the old one stays valid much longer.
_SECRET_SECONDS = 5.0
_LONGEST_SOCKET = 100
"""Bytes of the path of a socket file; the kernel allows 107."""
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
        self,
        home: pathlib.Path,
        *,
        url: str,
        webhook_url: str,
        webhook_secret: Callable[[], str],
        processes: access.ProcessTokens,
        environment: Mapping[str, str],
        mode: str,
        rotation: logs.Rotation = logs.DEFAULT_ROTATION,
    ) -> None:
        """`mode` is auto (run a server if the package is installed), none, or the URL of an existing server. `url` is where the proxy serves
        the server that runs here; `processes` lets this process through.

        `webhook_secret` is called periodically, because the secret may be rotated.
        """
        self._inherited = dict(environment)
        self._folder, self._url, self._webhook_url, self._webhook_secret = home / "mlflow", url, webhook_url, webhook_secret
        self._processes = processes
        self._server: tuple[upstream.SocketFilePool, Mapping[str, str]] | None = None
        self._stopping, self._conditions = threading.Event(), Conditions()
        # No child starts after `stop`.
        self._changing = threading.Lock()
        self._child: child_process.SupervisedProcess | None = None
        self._thread: threading.Thread | None = None
        self._mode, self._rotation = mode, rotation
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

    @property
    def url(self) -> str:
        """The address at which the proxy serves the server that runs here; empty where none is to run."""
        return self._url if self._mode == "auto" else ""

    @property
    def server(self) -> tuple[upstream.SocketFilePool, Mapping[str, str]] | None:
        """Connections to the server that runs here, and the header that they need; None without one."""
        return self._server

    def stop(self) -> None:
        """End the server and wait for it, but not for its answer to a request."""
        with self._changing:
            self._stopping.set()
            child = self._child
        if child is not None:
            child.stop()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _supervise(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            try:
                self._run_once()
                pause = 1.0
            except (errors.FusemlError, OSError) as error:
                self.state = Status("failed", message=str(error))
                self._conditions.fault(_log, "MLflow", str(error), logging.ERROR)
                pause = min(60.0, pause * 2)
            self._stopping.wait(pause)

    def _run_once(self) -> None:
        self.state = Status("starting", self._url)
        log = self._folder / "server.log"
        key, own = random_secrets.token_urlsafe(32), self._processes.grant()
        with _socket_folder(self._folder) as folder:
            socket_file = folder / "server.sock"
            pool = upstream.SocketFilePool(socket_file)
            command, environment = self._command(socket_file), {**self._environment(), tracking_app.KEY_VARIABLE: key}
            with self._changing:
                if self._stopping.is_set():
                    return
                child = self._child = child_process.SupervisedProcess(command, env=environment, cwd=self._folder, log=log)
            self._server = pool, {tracking_app.KEY_HEADER: key}
            try:
                self._wait_until_ready(child, log)
                secret = self._register_webhook(own, None)
                self.state = Status("ready", self._url)
                self._conditions.well(_log, "MLflow")
                checked = time.monotonic()
                while child.running and not self._stopping.wait(1.0):
                    logs.rotate(log, self._rotation)
                    if time.monotonic() - checked > _SECRET_SECONDS:
                        secret, checked = self._register_webhook(own, secret), time.monotonic()
                if not self._stopping.is_set():
                    raise errors.TemporaryError(f"the MLflow server ended unexpectedly: {child_process.tail(log)}")
            finally:
                self._server = None
                self._processes.revoke(own)
                child.stop()
                pool.close()

    def _register_webhook(self, token: str, registered: str | None) -> str:
        """Register the webhook with the current secret, if it is not the registered one."""
        secret = self._webhook_secret()
        if secret != registered:
            tracking = mlflow.Tracking(self._url, {"MLFLOW_TRACKING_TOKEN": token})
            tracking.ensure_webhook("fuseml", self._webhook_url, secret)
        return secret

    def _wait_until_ready(self, child: child_process.SupervisedProcess, log: pathlib.Path) -> None:
        assert self._server is not None
        pool, headers = self._server
        for _ in range(_START_SECONDS * 5):
            if self._stopping.wait(0.2) or not child.running:
                raise errors.TemporaryError(f"the MLflow server did not start: {child_process.tail(log)}")
            try:
                if pool.request("GET", f"{tracking_proxy.PREFIX}/health", headers=headers, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                continue
        raise errors.TemporaryError(f"the MLflow server was not ready after {_START_SECONDS} seconds: {child_process.tail(log)}")

    def _command(self, socket_file: pathlib.Path) -> list[str]:
        return [sys.executable, "-P", "-m", "fuseml.embedded.tracking_app", str(socket_file)]

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
            **tracking_app.options(f"sqlite:///{self._folder / 'mlflow.db'}", self._folder / "artifacts", tracking_proxy.PREFIX),
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


@contextlib.contextmanager
def _socket_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that only this user can enter, with a path that is short enough for a socket file."""
    near = folder / "socket"
    if len(bytes(near / "server.sock")) <= _LONGEST_SOCKET:
        shutil.rmtree(near, ignore_errors=True)
        near.mkdir(mode=0o700)
        yield near
        return
    # Not in TMPDIR, whose path may be as long.
    with tempfile.TemporaryDirectory(prefix="fuseml-", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        yield pathlib.Path(temporary)
