"""The process of a model server: started for one revision of an application, with a log, a folder for downloads, a key and a token."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fuseml.domain import errors
from fuseml.embedded import access, child_process, ending
from fuseml.engines.local import implementations
from fuseml.store import applications

START_SECONDS = 180.0
"""A process that is not ready by then is ended."""
# A process that ignores SIGTERM gets SIGKILL after 10 seconds.
_STOP_SECONDS = 11.0
# MLflow copies each loaded model into the folder for temporary files and never deletes it.
_SCRATCH = ".scratch-"
# `steps.model_server` answers only requests with the key in its environment, so that its port is of no use to other processes.
_KEY_VARIABLE = "FUSEML_MODEL_SERVER_KEY"


@dataclass
class ModelProcess:
    """One process that serves one revision of an application at `url`, to requests with `key`."""

    revision: int
    child: child_process.SupervisedProcess
    scratch: pathlib.Path
    key: str
    revoke: Callable[[], None]
    url: str = ""
    busy: int = 0
    last_used: float = 0.0
    retired: bool = False

    def close(self) -> None:
        """End the process and its token, and remove its downloads."""
        self.revoke()
        self.child.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def number(self) -> int:
        """Of its process."""
        return self.child.pid


class Starter:
    """Starts model servers in `folder`. `runtimes` is the folder of the environments of builder steps."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        runtimes: pathlib.Path,
        environment: Mapping[str, str],
        unseal: Callable[[str], str],
        tracking_url: str,
        processes: access.ProcessTokens,
    ) -> None:
        self._folder, self._runtimes, self._unseal = folder, runtimes, unseal
        self._environment, self._tracking_url, self._processes = dict(environment), tracking_url, processes
        # Also those that are starting or ending.
        self._running: list[ModelProcess] = []
        self._lock = threading.Lock()
        self._stopping = False

    def prepare(self) -> None:
        """Make the folder, and remove the downloads that a killed server left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def logs(self) -> Iterator[pathlib.Path]:
        """The log of each application's model servers."""
        return self._folder.glob("*.log")

    def stop(self) -> None:
        """End every process side by side, also those that are starting, and wait for them. No other one starts."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        ending.stop_all({f"model server {process.number}": process.close for process in running}, _STOP_SECONDS)

    def start(self, application: applications.ApplicationRevision) -> ModelProcess:
        """Start a model server, and wait until it is ready. Raises PermanentError with its cause, TemporaryError after `stop`."""
        document = application.document
        if not document.get("model"):
            raise errors.PermanentError("it is registered without a model")
        python = self._python(document.get("runtime") or "")
        argv = [*python, "-m", "fuseml.steps.model_server", "--model", document["model"], "--name", application.application, "--port", "0"]
        if document.get("format", "mlflow") != "mlflow":
            argv += ["--format", document["format"]]
        log = self._folder / f"{application.application}.log"
        logged = log.stat().st_size if log.exists() else 0
        process = self._launched(application, argv, log)
        watchdog = threading.Timer(START_SECONDS, process.close)
        watchdog.start()
        try:
            line = process.child.stdout.readline()
        finally:
            watchdog.cancel()
        try:
            port = int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError):
            process.close()
            raise errors.PermanentError(f"its model server did not start: {child_process.tail(log, since=logged)}") from None
        process.url, process.last_used = f"http://127.0.0.1:{port}", time.monotonic()
        return process

    def _launched(self, application: applications.ApplicationRevision, argv: list[str], log: pathlib.Path) -> ModelProcess:
        document = application.document
        own = {name: self._unseal(value) for name, value in (document.get("environment") or {}).items()}
        key, tracking = secrets.token_urlsafe(32), document.get("tracking_uri") or ""
        environment = {**own, **self._environment, "MLFLOW_TRACKING_URI": tracking, _KEY_VARIABLE: key}
        if document.get("digest"):
            environment["FUSEML_MODEL_DIGEST"] = document["digest"]
        with self._lock, contextlib.ExitStack() as unless_started:
            if self._stopping:
                raise errors.TemporaryError("the server is stopping")
            self._running = [process for process in self._running if process.child.running]
            scratch = pathlib.Path(tempfile.mkdtemp(dir=self._folder, prefix=_SCRATCH))
            unless_started.callback(shutil.rmtree, scratch, ignore_errors=True)
            token = self._processes.grant()
            unless_started.callback(self._processes.revoke, token)
            environment["TMPDIR"] = str(scratch)
            if tracking.rstrip("/") == self._tracking_url:
                # Its own token: that of the step which registered the application has ended.
                environment["MLFLOW_TRACKING_TOKEN"] = token
            child = child_process.SupervisedProcess(argv, env=environment, cwd=self._folder, log=log, pipe=True)
            process = ModelProcess(application.revision, child, scratch, key, functools.partial(self._processes.revoke, token))
            self._running.append(process)
            unless_started.pop_all()
        return process

    def _python(self, runtime: str) -> list[str]:
        repository, _, tag = runtime.rpartition(":")
        if not repository or tag == "host":
            # -P: a module of the working folder must not shadow an installed one.
            return [sys.executable, "-P"]
        python = implementations.environment_folder(self._runtimes, tag) / "bin" / "python"
        if "/" in tag or not python.exists():
            raise errors.PermanentError(
                f"its runtime {runtime!r} is not an environment on this machine; run its workflow again to build it"
            )
        os.utime(python.parents[1])  # as a use of the environment
        # -I: isolated; the builder has installed the model server in the environment.
        return [str(python), "-I"]
