"""The engine's face: submit, cancel, observe, logs.

- Every fact is on disk before it is told (`journal`), and told as Tekton's events (`report`, `publisher`).
- Steps live in sessions of their own (`process`) and survive the death of the server. The next one takes them over where they are: it
  collects what has ended, watches what still runs, and counts as lost what vanished. No attempt is made twice.
- A clean stop ends running steps; their runs fail as interrupted. Runs without a running step go on after the next start.
- Secrets are handed to processes in their environment. On disk they are sealed, and only until the run has finished (`step_log`
  says what happens when a step prints one). What a step writes as an output is published, secret or not.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from fuseml.domain import errors, events, plans, runs
from fuseml.engines.local import admission, attempt, decisions, implementations, journal, publisher, report, scheduler, step_log
from fuseml.engines.port import LogChunk
from fuseml.runtime.telemetry import trace

_TELL = 5.0
"""Seconds that the last events have to be handed over in when the engine stops."""


class LocalEngine:
    """Runs plans below `root`. `start` and `stop` frame its life; everything else may be called at any time, from any thread.

    `emit` receives the events, on a thread of the engine; when it raises, the event comes again. `checkout` writes a codeset's tree into an
    empty folder. `seal` and `unseal` protect secrets on disk. `environments` is the folder that builder steps fill. `images` maps further
    image names to commands (an empty command: the step brings one). `environment` is what steps see of the host's environment besides
    what they declare: PATH above all, proxies, whatever podman and docker need. `backoff` and `grace` are seconds: before the first retry,
    and between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        root: Path,
        emit: Callable[[events.Event], None],
        checkout: Callable[[plans.Checkout, Path], None],
        seal: Callable[[bytes], bytes],
        unseal: Callable[[bytes], bytes],
        *,
        environments: Path,
        images: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        max_parallel: int = 4,
        backoff: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        self._root = root.absolute()
        self._journal = journal.Journal(self._root)
        self._seal = seal
        self._clock = clock
        surroundings = dict(environment) if environment is not None else {"PATH": os.defpath}
        self._environments = environments.absolute()
        found = implementations.Implementations(images or {}, self._environments, surroundings)
        host = attempt.Host(checkout, unseal, found, self._environments, surroundings)
        self._publisher = publisher.Publisher(emit)
        self._scheduler = scheduler.Scheduler(host, self._publisher, decisions.Limits(max_parallel, backoff, grace), clock)
        self._lock: IO[bytes] | None = None

    def start(self) -> None:
        """Take over what an earlier server left, and go on. Raises ConflictError when a server uses the same folder now."""
        for folder in (self._root, self._environments):
            folder.mkdir(parents=True, exist_ok=True)
        lock = (self._root / ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise errors.ConflictError(
                f"another server already runs the runs in {self._root}; stop it first, or use another home"
            ) from None
        self._lock = lock
        self._publisher.start()
        self._scheduler.start(self._journal.folders())

    def stop(self, timeout: float = 10.0) -> None:
        """End running steps (SIGTERM, after `timeout` seconds SIGKILL) and return when their ends are recorded and, if possible, told.

        Their runs fail as interrupted. What could not be told is told by the next start.
        """
        self._scheduler.stop(timeout)
        self._publisher.stop(_TELL)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """See `Engine.submit`. Returns when the run is on disk; it starts on the engine's threads."""
        needed = admission.admit(plan, secrets)
        sealed = self._seal(json.dumps(needed).encode()) if needed else None
        record = journal.RunRecord(created=self._clock(), traceparent=trace.outgoing().get("traceparent", ""))
        folder = self._journal.create(plan, sealed, record)
        if folder is not None:
            self._scheduler.add(folder)

    def cancel(self, run_id: str, reason: str) -> None:
        """See `Engine.cancel`."""
        folder = self._journal.folder(run_id)
        if folder is not None:
            self._scheduler.end(folder, journal.Ending(reason=decisions.CANCELLED, message=reason, halt=True))

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """See `Engine.observe`. Read from disk, so it tells what a restart would know."""
        folder = self._journal.folder(run_id)
        if folder is None:
            return []
        planned = folder.read_plan()
        return report.all_events(planned, folder.record(), {step.name: folder.step(step.name) for step in planned.steps})

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """See `Engine.logs`. Secrets that the step printed were replaced by `<hidden>` when it did."""
        folder = self._journal.folder(run_id)
        if folder is None:
            raise errors.NotFoundError(f"the local engine knows no run {run_id!r}")
        folder.read_plan().step(step)
        # In this order: a step that has finished by now has its whole log.
        finished = folder.step(step).state in runs.FINISHED
        data, whole = step_log.read(folder.log(step), offset, limit)
        return LogChunk(data, offset + len(data), finished and whole)

    def forget(self, run_id: str) -> None:
        """See `Engine.forget`."""
        folder = self._journal.folder(run_id)
        if folder is None:
            return
        if folder.record().state not in runs.FINISHED:
            raise errors.ConflictError(f"run {folder.read_plan().run} has not finished; cancel it first")
        self._journal.remove(folder)
