"""The log of a step: one file, into which no secret is ever written.

A step outlives the server, so what it prints cannot go through the server. Where its run has secrets, it goes through a small
process of its own that hides them (`masking.main`). That one is told the secrets through a pipe, outlives the server as the step
does, and ends when nobody has the step's output open any more. Without secrets the step writes straight into the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from fuseml.engines import masking
from fuseml.engines.local import process

_LOCK = "log.lock"
_POLL = 0.005
_PATIENCE = 5.0
"""Seconds for the last lines to arrive after the step has ended: what left its process group may hold its output open for ever."""


class StepLog:
    """The log of the step in `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self._hiding: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def written(self, secrets: Collection[str]) -> Iterator[IO[bytes]]:
        """A file for the step's output, to be inherited by its process; it is closed here afterwards. Raises OSError."""
        with self._log.open("ab") as log:
            if not masking.Mask(secrets):
                yield log
                return
            try:
                with self._hidden(secrets, log) as output:
                    yield output
            except BaseException:
                # Nobody will print anything.
                self.finish()
                raise

    def finish(self, patience: float = _PATIENCE) -> None:
        """Block until all that the step has printed is in the log, `patience` seconds at most."""
        deadline = time.monotonic() + patience
        while process.held(self._folder, _LOCK) and time.monotonic() < deadline:
            time.sleep(_POLL)
        if self._hiding is not None:
            self._hiding.kill()
            self._hiding.wait()

    @contextlib.contextmanager
    def _hidden(self, secrets: Collection[str], log: IO[bytes]) -> Iterator[IO[bytes]]:
        (self._folder / _LOCK).unlink(missing_ok=True)
        told, telling = os.pipe()
        printed, printing = os.pipe()
        with os.fdopen(telling, "wb") as secretly, os.fdopen(printing, "wb") as output:
            try:
                with (self._folder / _LOCK).open("wb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    # -I -S: it must not matter what is installed, nor what the folder it starts in holds.
                    self._hiding = subprocess.Popen(
                        [sys.executable, "-I", "-S", masking.__file__, str(told)],
                        env={},
                        cwd="/",
                        stdin=printed,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        pass_fds=[told, lock.fileno()],
                    )
            finally:
                os.close(told)
                os.close(printed)
            secretly.write(b"\0".join(secret.encode() for secret in secrets))
            secretly.close()
            yield output


def read(log: Path, offset: int, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the log from `offset` on, and whether that is all there is."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            data = file.read(limit + 1)
    except FileNotFoundError:
        return b"", True
    return data[:limit], len(data) <= limit
