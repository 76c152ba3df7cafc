"""The local engine: submit, cancel, observe, logs, drop_log, forget.

- Every fact is written to disk first (`journal`) and then published as Tekton's events (`report`, `publisher`).
- Steps run under supervisors (`process`) and survive a crash of the server. The next server recovers them: it collects ended
  steps, watches running ones, and fails vanished ones. No attempt runs twice.
- Native steps reach only the files that `confinement` grants them, where the kernel has Landlock.
- A clean stop ends running steps; their runs fail as interrupted. Runs without a running step continue after the next start.
- Steps are not trusted: files that they can write are read by `step_files`, and removed by a thread (`trash`), since they may be many.
- Processes receive secrets in their environment. On disk, secrets are sealed and removed when the run has finished; supervisors mask
  them in logs. Outputs of steps are published, so an output that contains a secret fails its step.
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
from fuseml.engines import masking
from fuseml.engines.local import admission, decisions, implementations, journal, report, scheduler, step_log
from fuseml.engines.local.confinement import Confinement
from fuseml.engines.local.devices import Devices
from fuseml.engines.local.host import Host, StepLimits
from fuseml.engines.local.publisher import Publisher
from fuseml.engines.local.trash import Trash
from fuseml.engines.port import LogChunk
from fuseml.processes.launcher import Launcher
from fuseml.runtime.telemetry import trace

_STOP_TIMEOUT = 6.0
_PUBLISH_TIMEOUT = 2.0
"""Seconds for the publication of the last events when the engine stops."""


class LocalEngine:
    """Runs plans in folders below `root`. The methods other than `start` and `stop` may be called at any time, from any thread.

    `emit` receives the events on a thread of the engine; an event is emitted again when `emit` raises. `checkout` writes the tree of a
    codeset into an empty folder; the engine fetches the submodules that it returns (`steps/submodules.py`). `seal` and
    `unseal` protect secrets on disk. Builder steps write to the folder `environments`. `images` maps further image names to commands; with an
    empty command, the step must declare one. `environment` holds the host's variables that steps see besides their own: PATH, proxies, the
    settings of podman and docker; `container_variables` names those that also have a meaning in a container, `masked` are secrets in it.
    `confinement` says which files of the host native steps may use; without one, all.
    `devices` are those that it hands out; the confinement knows their files.
    `max_parallel`, `backoff` and `grace`: see `decisions.Limits`.
    """

    def __init__(
        self,
        root: Path,
        emit: Callable[[events.Event], None],
        checkout: Callable[[plans.Checkout, Path], Sequence[plans.Submodule]],
        seal: Callable[[bytes], bytes],
        unseal: Callable[[bytes], bytes],
        *,
        environments: Path,
        images: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
        masked: Sequence[str] = (),
        container_variables: Sequence[str] = (),
        confinement: Confinement | None = None,
        limits: StepLimits | None = None,
        devices: Devices | None = None,
        clock: Callable[[], float] = time.time,
        max_parallel: int = 4,
        backoff: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        self._root = root.absolute()
        self._trash = Trash(self._root / ".trash")
        self._journal = journal.Journal(self._root, self._trash)
        self._seal = seal
        self._clock = clock
        host_environment = dict(environment) if environment is not None else {"PATH": os.defpath}
        self._environments = environments.absolute()
        self._launcher = Launcher(masking.__file__)
        host = Host(
            checkout,
            unseal,
            implementations.Implementations(images or {}, self._environments, host_environment),
            host_environment,
            tuple(container_variables),
            tuple(masked),
            self._trash,
            self._launcher,
            confinement or Confinement(),
            limits or StepLimits(),
            devices or Devices(),
        )
        self._devices = host.devices
        self._publisher = Publisher(emit)
        self._scheduler = scheduler.Scheduler(host, self._publisher, decisions.Limits(max_parallel, backoff, grace), clock)
        self._lock: IO[bytes] | None = None

    def start(self) -> None:
        """Recover the runs of an earlier server and continue them. Raises ConflictError when another server uses the same folder."""
        for folder in (self._root, self._environments):
            folder.mkdir(parents=True, exist_ok=True)
        lock = (self._root / ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise errors.ConflictError(f"another server uses the runs in {self._root}; stop it first, or use another home") from None
        self._lock = lock
        self._trash.start()
        self._publisher.start()
        self._scheduler.start(self._journal.folders())

    def stop(self, timeout: float = _STOP_TIMEOUT) -> None:
        """End running steps (SIGTERM, after `timeout` seconds SIGKILL) and return when their ends are recorded and, if possible, published.

        Their runs fail as interrupted. The next start publishes the remaining events. Takes 6 seconds more than `timeout` at most.
        """
        self._scheduler.stop(timeout)
        self._publisher.stop(_PUBLISH_TIMEOUT)
        self._trash.stop()
        self._launcher.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """See `Engine.submit`. Returns when the run is on disk; the engine's threads start it."""
        needed = admission.admit(plan, secrets, self._devices)
        sealed = self._seal(json.dumps(needed).encode()) if needed else None
        record = journal.RunRecord(created=self._clock(), traceparent=trace.outgoing().get("traceparent", ""))
        folder = self._journal.create(plan, sealed, record)
        if folder is not None:
            self._scheduler.add(folder)

    def cancel(self, run_id: str, reason: str) -> None:
        """See `Engine.cancel`."""
        if journal.is_name(run_id):
            ending = journal.Ending(reason=decisions.CANCELLED, message=reason, halt=True)
            self._scheduler.end(journal.RunFolder(self._root / run_id), ending)

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """See `Engine.observe`. Reads the disk, so the events are those that a restart would derive."""
        folder = self._journal.folder(run_id)
        if folder is None:
            return []
        try:
            return report.all_events(*_records(folder))
        except errors.PermanentError:
            return []  # `loss` returns the cause

    def loss(self, run_id: str) -> str | None:
        """See `Engine.loss`. A run whose records cannot be read is lost too."""
        folder = self._journal.folder(run_id)
        if folder is None:
            return f"its records in {self._root / run_id} were removed before its end was reported; rerun the run"
        if folder.is_whole and self._scheduler.holds(run_id):
            return None  # the records in memory replace those on disk
        try:
            _records(folder)
        except errors.PermanentError as error:
            return f"{error.message}; rerun the run"
        return None

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """See `Engine.logs`. Printed secrets are replaced by `<hidden>`."""
        folder = self._journal.folder(run_id)
        if folder is None:
            raise errors.NotFoundError(f"the local engine has no run {run_id!r}")
        try:
            # In this order: the log of a finished step is complete.
            plan, state = folder.read_plan(), folder.step(step).state
        except errors.PermanentError as error:
            raise errors.NotFoundError(f"the log is lost: {error.message}") from error
        plan.step(step)
        if folder.log_dropped(step):
            raise errors.NotFoundError(f"the local engine keeps the log of step {step!r} of run {run_id!r} no longer")
        finished = state in runs.FINISHED or (not self._scheduler.holds(run_id) and self.loss(run_id) is not None)
        data, at_end = step_log.read(folder.log(step), offset, limit)
        return LogChunk(data, offset + len(data), finished and at_end)

    def drop_log(self, run_id: str, step: str) -> None:
        """See `Engine.drop_log`."""
        folder = self._journal.folder(run_id)
        if folder is not None and folder.step(step).state in runs.FINISHED:
            folder.drop_log(step)

    def forget(self, run_id: str) -> None:
        """See `Engine.forget`."""
        folder = self._journal.folder(run_id)
        if folder is None:
            return
        if self.loss(run_id) is None and folder.record().state not in runs.FINISHED:
            raise errors.ConflictError(f"run {folder.read_plan().run} has not finished; cancel it first")
        self._journal.remove(folder)


def _records(folder: journal.RunFolder) -> tuple[plans.Plan, journal.RunRecord, dict[str, journal.StepRecord]]:
    """The plan, the record of the run and those of its steps. Raises PermanentError when one of them cannot be read."""
    plan = folder.read_plan()
    return plan, folder.record(), {step.name: folder.step(step.name) for step in plan.steps}
