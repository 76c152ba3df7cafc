"""A job followed to its end: its log as that of the step, its outputs taken out of the log, a tool that is away waited for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, TypeVar

from fuseml.steps import sdk
from fuseml.workloads import starting
from fuseml.workloads.port import ENDS, Job, Position, State, Status, Workload

_PAUSE = 1.0
_LONGEST_PAUSE = 5.0
_PAUSE_OF_MIB = 0.5
"""Seconds by which a MiB of log slows the questions down: some tools give the whole log at each one."""
_AWAY_PAUSE = 2.0
_CANCELLING = 20.0
_MIB = 1 << 20
T = TypeVar("T")


class Lines:
    """The log of a job, written on as it comes, without the lines that are outputs."""

    def __init__(self, target: TextIO) -> None:
        self.outputs: dict[str, str] = {}
        self.size = 0
        self._target = target
        self._kept = ""
        self._is_within_line = False

    def add(self, text: str) -> None:
        """Write the next part of the log. The begin of a line waits for its end only if it may become an output."""
        self.size += len(text)
        *lines, last = (self._kept + text).split("\n")
        for line in lines:
            self._line(line + "\n")
            self._is_within_line = False
        self._kept = last
        if last and (self._is_within_line or not (last.startswith(starting.MARK) or starting.MARK.startswith(last))):
            self._target.write(last)
            self._kept, self._is_within_line = "", True
        self._target.flush()

    def end(self) -> None:
        """End the last line."""
        if self._kept or self._is_within_line:
            self.add("\n")

    def _line(self, line: str) -> None:
        found = None if self._is_within_line else starting.output(line)
        if found is None:
            self._target.write(line)
        else:
            self.outputs[found[0]] = found[1]


class Follower:
    """Calls a tool, which may be away for `patience` seconds."""

    def __init__(self, tool: Workload, patience: float) -> None:
        self._tool, self._patience = tool, patience
        self._lines = Lines(sys.stdout)
        self._position: Position = {}

    @property
    def printed(self) -> Mapping[str, str]:
        """The outputs in the log so far."""
        return self._lines.outputs

    def state(self, name: str) -> State:
        """The present state of a job. Raises StepError."""
        return self._patiently(lambda: self._tool.observe(name)).state

    def submit(self, job: Job) -> None:
        """Start the job. Raises StepError."""
        self._patiently(lambda: self._tool.submit(job))

    def outputs(self, name: str) -> Mapping[str, str]:
        """The results that the tool keeps. Raises StepError."""
        return self._patiently(lambda: self._tool.outputs(name))

    def follow(self, name: str) -> Status:
        """Print the log of the job until its end; its status then. Raises StepError, also for a job that vanishes or never starts."""
        began, noted, since = time.monotonic(), "", time.monotonic()
        while True:
            # The state first: what is written before the end is printed.
            status = self._patiently(lambda: self._tool.observe(name))
            if status.state == "absent":
                raise sdk.StepError(f"the job {name} is not there any more: it was deleted in the tool, or the tool has lost it")
            self._patiently(lambda: self._print(name))
            if status.state in ENDS:
                self._lines.end()
                return status
            if status.waiting != noted:
                noted, since = status.waiting, time.monotonic()
                if noted:
                    sdk.say(f"job {name}: {status.state}: {noted}")
            if status.is_stuck or (status.is_doubtful and time.monotonic() - since > self._patience):
                raise sdk.StepError(f"the job {name} cannot start: {status.waiting}")
            pause = min(_LONGEST_PAUSE, _PAUSE + (time.monotonic() - began) / 60)
            time.sleep(pause + self._lines.size / _MIB * _PAUSE_OF_MIB)

    def cancel(self, name: str) -> str:
        """Cancel the job; its fate for a message."""
        deadline = time.monotonic() + _CANCELLING
        with contextlib.suppress(sdk.StepError):
            self._tool.cancel(name)
            while (state := self._tool.observe(name).state) in ("queued", "running") and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            return "is being cancelled" if state in ("queued", "running") else f"is {'cancelled' if state == 'absent' else state}"
        return "could not be cancelled: the tool does not answer"

    def _print(self, name: str) -> None:
        text, self._position = self._tool.logs(name, self._position)
        self._lines.add(text)

    def _patiently(self, call: Callable[[], T]) -> T:
        """The result of a call, which is repeated while the tool is away. Every operation may be repeated."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except sdk.HttpError as error:
                is_away = error.status in (0, 429) or error.status >= 500
                if not is_away or time.monotonic() > deadline:
                    raise
                sdk.say(f"waiting for the tool: {error}")
                time.sleep(_AWAY_PAUSE)
