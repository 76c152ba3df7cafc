"""One attempt of one step, from its checkout to its outcome, on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fuseml.domain import errors, plans
from fuseml.domain.plans import outputs
from fuseml.engines import masking
from fuseml.engines.local import decisions, implementations, journal, launch, process, step_files, step_log
from fuseml.engines.local.trash import Trash

_LOG = logging.getLogger(__name__)

_CAUSE_LINES, _CAUSE_BYTES = 3, 500
_TAIL = 8192
_RUNTIME_TIMEOUT = 30.0
_SEPARATOR = "=== attempt {number} ==="
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Host:
    """The environment that this machine gives to all steps."""

    checkout: Callable[[plans.Checkout, Path], None]
    unseal: Callable[[bytes], bytes]
    implementations: implementations.Implementations
    environments: Path
    environment: Mapping[str, str]
    trash: Trash


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

    `adopted` attempts were launched by an earlier server. `on_launch` is called with the container program, if any, before the
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
        outputs: Mapping[str, Mapping[str, str]],
        checkouts: threading.Lock,
        on_launch: Callable[[str | None], None],
        adopted: journal.AttemptRecord | None = None,
    ) -> None:
        self._host = host
        self._folder = folder
        self._step_folder = folder.step_path(step.name)
        self._log = folder.log(step.name)
        self._step_log = step_log.StepLog(self._step_folder, self._log)
        self._step = step
        self._number = number
        self._container = launch.container_name(run_id, step.name, number)
        self._outputs = outputs
        self._checkouts = checkouts
        self._on_launch = on_launch
        self._runtime = adopted.runtime if adopted else None
        self._adopted = adopted is not None and process.has_begun(self._step_folder)
        self._guard = threading.Lock()
        self._process = process.adopt(self._step_folder) if self._adopted else None
        self._stop: Stop | None = None
        self._kill_at = math.inf
        self._abandonment: Outcome | None = None
        self._abandon_at = math.inf

    def stop(self, stop: Stop, kill_at: float, abandon_at: float) -> None:
        """Ask the step to end (SIGTERM). The first reason and the earliest times count; an ended process keeps its outcome until `abandon_at`."""
        with self._guard:
            if self._abandonment is None:
                # No retry: the thread of this attempt still uses the step's folder.
                self._abandonment = Outcome(stop.state, stop.reason, stop.message, retryable=False)
            self._abandon_at = min(self._abandon_at, abandon_at)
            if self._process is not None and self._process.ended:
                return
            if self._stop is not None:
                self._kill_at = min(self._kill_at, kill_at)
                return
            self._stop = stop
            self._kill_at = kill_at
            running = self._process
        if running is not None:
            running.signal(signal.SIGTERM)

    def enforce(self, now: float) -> float:
        """Kill a process that did not end in time. Returns the time of the next check."""
        if self._kill_at <= now:
            self._kill_at = math.inf
            if self._process is not None:
                self._process.signal(signal.SIGKILL)
        return min(self._kill_at, self._abandon_at)

    def abandonment(self, now: float) -> Outcome | None:
        """The outcome of a stopped attempt whose thread is still busy at `abandon_at`, whatever it waits for; None before."""
        return self._abandonment if self._abandon_at <= now else None

    def perform(self) -> Outcome:
        """Run the attempt, or wait for the adopted process; block until it has ended and its log is complete."""
        try:
            running = self._process or self._launch()
        except errors.PermanentError as error:
            return self._could_not_start(error.message, retryable=False)
        except (errors.FusemlError, OSError, ValueError) as error:
            return self._could_not_start(str(error), retryable=True)
        code = running.wait() if running is not None else None
        if self._runtime is not None and code is None:
            self._remove_container()
        self._step_log.finish()
        outcome = self._outcome(code)
        self._host.trash.discard(self._step_folder / "work")
        return outcome

    def _known_secrets(self) -> masking.Mask:
        """The mask of the run's secrets. Raises PermanentError when they cannot be read."""
        return masking.Mask(self._folder.secrets(self._host.unseal).values())

    def _launch(self) -> process.Process | None:
        """Start the process; None when the attempt was stopped first."""
        self._host.trash.discard(self._step_folder / "results")
        (self._step_folder / "results").mkdir(parents=True)
        self._write_separator()
        for checkout in self._step.checkouts:
            self._check_out(checkout)
        secrets = self._folder.secrets(self._host.unseal)
        values = launch.evaluate(self._step, self._outputs, secrets)
        implementation = self._host.implementations.find(values.image)
        if isinstance(implementation, implementations.Container):
            prepared = launch.container(self._step, values, implementation.runtime, self._folder, self._container, self._host.environment)
        else:
            prepared = launch.native(self._step, values, implementation, self._folder, self._host.environment, self._host.environments)
        if prepared.dropped:
            self._log_message(
                f"a shell cannot pass on variables with these names, so the step does not receive them: {', '.join(prepared.dropped)}"
            )
        process.clear(self._step_folder)
        self._on_launch(prepared.runtime)
        self._runtime = prepared.runtime
        with self._guard:
            if self._stop is None:
                with self._step_log.open_output(secrets.values()) as output:
                    self._process = process.start(
                        self._step_folder,
                        prepared.command,
                        environment=prepared.environment,
                        directory=prepared.directory,
                        output=output,
                        data_limit=prepared.data_limit,
                    )
            return self._process

    def _check_out(self, checkout: plans.Checkout) -> None:
        target = self._folder.checkout_path(checkout)
        with self._checkouts:
            if target.exists():
                return
            if self._stop is not None:
                raise errors.TemporaryError(self._stop.message)
            partial = target.with_name(f".{target.name}.partial")
            self._host.trash.discard(partial)
            partial.mkdir(parents=True)
            try:
                self._host.checkout(checkout, partial)
            except Exception as error:
                # Git hosts and their libraries raise many types; the run distinguishes permanent and temporary failures only.
                kind = errors.PermanentError if isinstance(error, errors.PermanentError) else errors.TemporaryError
                raise kind(
                    f"codeset {checkout.project}/{checkout.codeset} could not be checked out at {checkout.commit[:12]}: {error}"
                ) from error
            partial.rename(target)

    def _outcome(self, code: int | None) -> Outcome:
        if self._stop is not None:
            return Outcome(self._stop.state, self._stop.reason, self._stop.message)
        if code is None and self._adopted:
            return Outcome("failed", decisions.FAILED, "the process vanished (was the machine restarted?)")
        if code is None:
            return Outcome("failed", decisions.FAILED, self._with_last_lines("the process was killed (out of memory?)"))
        if code != 0:
            return Outcome("failed", decisions.FAILED, self._with_last_lines(f"exited with code {code}{_signal_name(code)}"))
        try:
            return Outcome("succeeded", outputs=self._read_outputs())
        except (errors.PermanentError, OSError, ValueError) as error:
            return Outcome("failed", decisions.FAILED, str(error))

    def _read_outputs(self) -> dict[str, str]:
        written = {output.name: self._read_output(output.name) for output in self._step.outputs}
        if outputs.size(written) > outputs.LIMIT:
            raise errors.PermanentError(outputs.TOO_LARGE)
        # Outputs are published: in events, in the API, to other steps.
        if written:
            mask = self._known_secrets()
            for name in (name for name, content in written.items() if mask.found_in(content)):
                raise errors.PermanentError(outputs.contains_secret(name))
        return {name: _text(name, content) for name, content in written.items()}

    def _read_output(self, name: str) -> bytes:
        """The content of an output, cut off right after the limit."""
        remedy = f"write the file $FUSEML_ENV_RESULTS/{name}"
        try:
            return step_files.read(self._folder.path, "steps", self._step.name, "results", name, limit=outputs.LIMIT + 1)
        except FileNotFoundError:
            raise errors.PermanentError(f"it exited with code 0 but did not write its output {name!r}: {remedy}") from None
        except OSError as error:
            raise errors.PermanentError(f"its output {name!r} cannot be read: {error.strerror or error}; {remedy}") from error

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

    def _with_last_lines(self, cause: str) -> str:
        """`cause`, followed by the end of this attempt's log: at most three lines and 500 bytes."""
        try:
            with step_files.open_to_read(self._log.parent, self._log.name) as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL))
                tail = file.read(_TAIL).decode(errors="replace")
        except OSError as error:
            return f"{cause}; its log cannot be read: {error.strerror or error}"
        own = tail.rpartition(_SEPARATOR.format(number=self._number))[2]
        lines = [_CONTROL.sub("", line.rpartition("\r")[2]).rstrip() for line in own.replace("\r\n", "\n").split("\n")]
        kept = "\n".join([line for line in lines if line][-_CAUSE_LINES:])
        kept = kept.encode()[-_CAUSE_BYTES:].decode(errors="ignore")
        return f"{cause}: {kept}" if kept else cause


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise errors.PermanentError(f"its output {name!r} is not UTF-8 text; write text") from None
    if "\0" in text:
        raise errors.PermanentError(f"its output {name!r} contains a NUL character; write text")
    return text.removesuffix("\n").removesuffix("\r")


def _signal_name(code: int) -> str:
    if code <= 128:
        return ""
    try:
        return f" ({signal.Signals(code - 128).name})"
    except ValueError:
        return ""
