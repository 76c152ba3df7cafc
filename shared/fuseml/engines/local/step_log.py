"""The log of a step: one file that never contains a secret.

A step outlives the server, so its output cannot pass through the server. When the run has secrets, the output passes through a small
process that masks them (`masking.main`). That process reads the secrets from a pipe, outlives the server as the step does, and ends
when the step's output is closed everywhere. Without secrets the step writes straight to the file.
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
from fuseml.engines.local import process, step_files

_LOCK = "log.lock"
_POLL = 0.005
_FLUSH_TIMEOUT = 5.0
"""Seconds for the last lines to arrive after the step has ended: a daemon of the step may keep its output open forever."""


class StepLog:
    """The log of the step in `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self._masker: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def open_output(self, secrets: Collection[str]) -> Iterator[IO[bytes]]:
        """A file for the step's output, to be inherited by its process; this process closes it afterwards. Raises OSError."""
        with step_files.open_to_append(self._log) as log:
            if not masking.maskable(secrets):
                yield log
                return
            try:
                with self._masked(secrets, log) as output:
                    yield output
            except BaseException:
                # The step did not start, so nothing will be printed.
                self.finish()
                raise

    def finish(self, timeout: float = _FLUSH_TIMEOUT) -> None:
        """Block until the whole output of the step is in the log, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while process.held(self._folder, _LOCK) and time.monotonic() < deadline:
            time.sleep(_POLL)
        if self._masker is not None:
            self._masker.kill()
            self._masker.wait()

    @contextlib.contextmanager
    def _masked(self, secrets: Collection[str], log: IO[bytes]) -> Iterator[IO[bytes]]:
        secrets_read, secrets_write = os.pipe()
        output_read, output_write = os.pipe()
        with os.fdopen(secrets_write, "wb") as secrets_pipe, os.fdopen(output_write, "wb") as output:
            try:
                with step_files.create(self._folder / _LOCK) as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    # -I -S: independent of installed packages and of the files in the working directory.
                    self._masker = subprocess.Popen(
                        [sys.executable, "-I", "-S", masking.__file__, str(secrets_read)],
                        env={},
                        cwd="/",
                        stdin=output_read,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        pass_fds=[secrets_read, lock.fileno()],
                    )
            finally:
                os.close(secrets_read)
                os.close(output_read)
            secrets_pipe.write(b"\0".join(secret.encode() for secret in secrets))
            secrets_pipe.close()
            yield output


def read(log: Path, offset: int, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the log from `offset` on, and whether they reach the end of the log.

    A log that the step replaced by something else reads as a message that says so.
    """
    try:
        with step_files.open_to_read(log.parent, log.name) as file:
            file.seek(offset)
            data = file.read(limit + 1)
    except FileNotFoundError:
        return b"", True
    except step_files.WrongKindError as error:
        data = f"fuseml: the step replaced its log: {error}\n".encode()[offset : offset + limit + 1]
    return data[:limit], len(data) <= limit
