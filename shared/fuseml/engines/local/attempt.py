"""One attempt of one step, from its checkout to its outcome, on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import math
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fuseml.domain import errors, plans
from fuseml.domain.plans import combinations
from fuseml.engines import masking, results, step_files
from fuseml.engines.local import causes, checking_out, credentials, decisions, implementations, journal, launch, process, transferring
from fuseml.engines.local.confinement import Confinement
from fuseml.engines.local.devices import Allocation
from fuseml.engines.local.host import Host
from fuseml.processes import program

_LOG = logging.getLogger(__name__)

_RUNTIME_TIMEOUT = 30.0
_DESTROY = 3.0
"""Seconds for a supervisor to kill its step; it is killed itself then."""
_SEPARATOR = "=== attempt {number} ==="


@dataclass(frozen=True, slots=True)
class Stop:
    """A request to end an attempt, with the resulting state of its step. `reason` is Tekton's reason."""

    state: Literal["failed", "cancelled"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt. `retryable` is false when another attempt would end the same way."""

    state: Literal["succeeded", "failed", "cancelled"]
    reason: str = decisions.SUCCEEDED
    cause: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = True


class Attempt:
    """`perform` runs on a thread of its own; `stop` and `enforce` are called by the scheduler's thread.

    `adopted` attempts have a process of an earlier server. `on_launch` is called with the container program, if any, before the
    process exists: from then on the attempt is never started again, unless the server dies before it creates the process.
    """

    def __init__(
        self,
        host: Host,
        folder: journal.RunFolder,
        step: plans.StepPlan,
        number: int,
        *,
        run_id: str,
        project: str,
        outputs: Mapping[str, Mapping[str, str]],
        checkouts: threading.Lock,
        on_launch: Callable[[str | None], None],
        devices: Allocation,
        adopted: journal.AttemptRecord | None = None,
    ) -> None:
        self._host = host
        self._folder = folder
        self._step_folder = folder.step_path(step.name)
        self._log = folder.log(step.name)
        self._step = step
        self._number = number
        self._container = launch.container_name(run_id, step.name, number)
        self._project = project
        self._outputs = outputs
        self._checking_out = checking_out.CheckingOut(host, folder, self._log, checkouts, self._stopped)
        self._artifacts = transferring.Transferring(
            host, folder, step, project=project, execution=run_id, outputs=outputs, stopped=self._stopped
        )
        self._on_launch = on_launch
        self._devices = devices
        self._over = threading.Event()
        self._runtime = adopted.runtime if adopted else None
        self._adopted = adopted is not None
        self._guard = threading.Lock()
        self._process = process.adopt(self._step_folder) if self._adopted else None
        self._stop: Stop | None = None
        self._killed = False
        self._kill_at = self._destroy_at = math.inf
        self._abandonment: Outcome | None = None
        self._abandon_at = math.inf

    def _stopped(self) -> str:
        return self._stop.message if self._stop is not None else ""

    @property
    def _running(self) -> process.Process | None:
        return self._artifacts.running or self._process or self._checking_out.running

    def stop(self, stop: Stop, kill_at: float, abandon_at: float) -> None:
        """Ask the step to end (SIGTERM). The first reason and the earliest times count; an ended process keeps its outcome until
        `abandon_at`.
        """
        with self._guard:
            if self._abandonment is None:
                # No retry: the thread of this attempt still uses the step's folder.
                self._abandonment = Outcome(stop.state, stop.reason, stop.message, retryable=False)
            self._abandon_at = min(self._abandon_at, abandon_at)
            if self._process is not None and self._process.ended and not self._step.collects:
                return
            if self._stop is not None:
                self._kill_at = min(self._kill_at, kill_at)
                return
            self._stop = stop
            self._kill_at = kill_at
            running = self._running
        if running is not None:
            running.stop()

    def enforce(self, now: float) -> float:
        """Kill a process that did not end in time. Returns the time of the next check."""
        if self._kill_at <= now:
            self._kill_at, self._destroy_at = math.inf, now + _DESTROY
            with self._guard:
                self._killed, running = True, self._running
            if running is not None:
                running.kill()
        if self._destroy_at <= now:
            self._destroy_at = math.inf
            running = self._running
            if running is not None:
                running.destroy()
        return min(self._kill_at, self._destroy_at, self._abandon_at)

    def abandonment(self, now: float) -> Outcome | None:
        """The outcome of a stopped attempt whose thread is still busy at `abandon_at`, whatever it waits for; None before."""
        return self._abandonment if self._abandon_at <= now else None

    def is_performing(self) -> bool:
        """Whether `perform` has not returned: its process may live."""
        return not self._over.is_set()

    def perform(self) -> Outcome:
        """Run the attempt, or wait for the adopted process; block until it has ended and its log is complete."""
        try:
            return self._perform()
        finally:
            credentials.remove(self._folder.credentials(self._step.name))
            self._over.set()

    def _perform(self) -> Outcome:
        try:
            running = self._process or self._launch()
        except errors.PermanentError as error:
            return self._could_not_start(error.message, retryable=False)
        except (errors.FusemlError, OSError, ValueError) as error:
            return self._could_not_start(str(error), retryable=True)
        end = running.wait() if running is not None else None
        if self._runtime is not None and (end is None or end[0] == causes.KILLED or end[1]):
            self._remove_container()
        outcome = self._outcome(end)
        for path in (self._step_folder / "work", self._folder.inputs(self._step.name), self._folder.temporary(self._step.name)):
            self._host.trash.discard(path)
        return outcome

    def _known_secrets(self) -> masking.Mask:
        """The mask of the run's secrets. Raises PermanentError when they cannot be read."""
        return masking.Mask([*self._folder.secrets(self._host.unseal).values(), *self._host.masked])

    def _launch(self) -> process.Process | None:
        """Start the process; None when the attempt was stopped first."""
        for path in (self._step_folder / "results", self._folder.temporary(self._step.name)):
            self._host.trash.discard(path)
        (self._step_folder / "results").mkdir(parents=True)
        self._write_separator()
        for checkout in self._step.checkouts:
            self._checking_out.check_out(checkout)
        self._artifacts.fetch()
        secrets = self._folder.secrets(self._host.unseal)
        prepared = self._artifacts.conversion(secrets) or self._prepared(secrets)
        process.clear(self._step_folder)
        self._on_launch(prepared.runtime)
        self._runtime = prepared.runtime
        if self._stop is not None:
            return None
        # Not under the guard, for which the scheduler waits.
        with step_files.open_to_append(self._log) as log:
            started = process.start(self._host.launcher, self._request(prepared, secrets), log)
        with self._guard:
            self._process = started
            stopped, killed = self._stop is not None, self._killed
        if killed:
            started.kill()
        elif stopped:
            started.stop()
        return started

    def _prepared(self, secrets: Mapping[str, str]) -> launch.Launch:
        image = launch.evaluate_image(self._step, self._outputs)
        implementation, host = self._host.implementations.find(image, self._project), self._host.environment
        in_container = isinstance(implementation, implementations.Container)
        placed = self._folder.credentials(self._step.name)
        credentials.write(placed, plans.secret_files(self._step), secrets)
        values = launch.evaluate(self._step, self._outputs, secrets, None if in_container else placed)
        if isinstance(implementation, implementations.Container):
            return launch.container(
                self._step,
                values,
                implementation.runtime,
                self._folder,
                self._container,
                host,
                self._host.container_variables,
                secrets.values(),
                devices=self._host.devices.of_container(self._devices, Path(implementation.runtime).name),
            )
        return launch.native(self._step, values, implementation, self._folder, host, self._host.devices.variables(self._devices))

    def _request(self, prepared: launch.Launch, secrets: Mapping[str, str]) -> program.Request:
        # A container program is trusted, and uses files of its own. What runs in a container may write to its mounts.
        confinement = self._host.confinement if prepared.runtime is None and prepared.confined else Confinement()
        mounted = [self._step_folder / "results", *(self._folder.checkout_path(checkout) for checkout in self._step.checkouts)]
        return program.Request(
            folder=str(self._step_folder),
            command=list(prepared.command),
            environment=dict(prepared.environment),
            directory=str(prepared.directory),
            data_limit=prepared.data_limit or 0,
            secrets=[*secrets.values(), *self._host.masked],
            log_limit=self._host.limits.log,
            disk_limit=self._host.limits.disk,
            measured=[str(path) for path in prepared.write or mounted],
            grants=confinement.of_step(prepared.read, [*prepared.write, *prepared.stores], self._host.devices.files(self._devices)),
            abi=confinement.abi,
            tethered=False,
        )

    def _outcome(self, end: process.End | None) -> Outcome:
        if self._stop is not None:
            return Outcome(self._stop.state, self._stop.reason, self._stop.message)
        if end is None and self._adopted:
            return Outcome("failed", decisions.FAILED, "the process vanished (was the machine restarted?)")
        if end is None:
            return Outcome("failed", decisions.FAILED, self._explained("its supervisor was killed (out of memory?)"))
        code, reason = end
        if message := causes.exceeded(reason, self._host.limits):
            self._log_message(message)
            return Outcome("failed", decisions.FAILED, message, retryable=False)
        if code != 0:
            cause = self._explained(f"exited with code {code}{causes.signal_name(code)}")
            return Outcome("failed", decisions.FAILED, self._with_hint(cause))
        try:
            self._artifacts.collect(self._folder.root(self._step))
        except (errors.FusemlError, OSError) as error:
            return self._could_not_end(error)
        try:
            names = [output.name for output in self._step.outputs]
            folders = ("steps", self._step.name, "results")
            limit = combinations.output_limit(self._step)
            types = {output.name: output.type for output in self._step.outputs if output.type}
            return Outcome("succeeded", outputs=results.read(self._folder.path, folders, names, self._known_secrets, types, limit))
        except (errors.PermanentError, OSError, ValueError) as error:
            return Outcome("failed", decisions.FAILED, str(error))

    def _explained(self, ended: str) -> str:
        roots = [path for item in self._step.checkouts for path in (str(self._folder.checkout_path(item)), item.path)]
        return causes.explained(self._log, ended, _SEPARATOR.format(number=self._number), roots)

    def _with_hint(self, cause: str) -> str:
        """The cause, and advice if it is a path that the step may not use."""
        own = [self._step_folder, self._folder.temporary(self._step.name), *map(self._folder.checkout_path, self._step.checkouts)]
        hint = self._host.confinement.hint(cause, own) if self._runtime is None else ""
        if not hint:
            return cause
        self._log_message(hint)
        return f"{cause} ({hint})"

    def _could_not_end(self, error: errors.FusemlError | OSError) -> Outcome:
        if self._stop is not None:
            return Outcome(self._stop.state, self._stop.reason, self._stop.message)
        return Outcome(
            "failed", decisions.FAILED, self._known_secrets().text(str(error)), retryable=not isinstance(error, errors.PermanentError)
        )

    def _could_not_start(self, message: str, *, retryable: bool) -> Outcome:
        if self._stop is not None:
            return Outcome(self._stop.state, self._stop.reason, self._stop.message)
        with contextlib.suppress(errors.PermanentError):
            # Without readable secrets nothing has started, and the message cannot contain one.
            message = self._known_secrets().text(message)
        self._log_message(message)
        return Outcome("failed", decisions.FAILED, message, retryable=retryable)

    def _remove_container(self) -> None:
        # The client was killed, or the machine went down: the container may still run without it.
        command = [str(self._runtime), "kill", self._container]
        try:
            subprocess.run(
                command,
                env=dict(self._host.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_RUNTIME_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _LOG.warning("the container %s could not be stopped: %s", self._container, error)

    def _write_separator(self) -> None:
        if self._number > 1:
            self._append(f"{_SEPARATOR.format(number=self._number)}\n")

    def _log_message(self, message: str) -> None:
        self._append(f"fuseml: {message}\n")

    def _append(self, text: str) -> None:
        with step_files.open_to_append(self._log) as file:
            file.write(text.encode())
