"""Programs of jobs, run as processes by the servers that stand for a tool: their output with times, their end, a stop as a node stops them."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_GRACE = 5.0


@dataclass
class Program:
    """A process with its output so far: time and text of each line, the last one without an end of line where the program wrote none."""

    process: subprocess.Popen[bytes]
    lines: list[tuple[str, bytes]] = field(default_factory=list)
    reader: threading.Thread | None = None

    @property
    def code(self) -> int | None:
        """The exit code, once all output is there."""
        code = self.process.poll()
        return None if code is None or (self.reader and self.reader.is_alive()) else code

    def stop(self) -> None:
        """SIGTERM to the program, and SIGKILL to what is left of it after a while."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.reader:
            self.reader.join()


def start(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> Program:
    """Start a program in the folder, with these variables and a PATH."""
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), **variables}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    program = Program(process)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                # All nine digits, as kubelet prints them.
                stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                program.lines.append((stamp, line))

    program.reader = threading.Thread(target=read, daemon=True)
    program.reader.start()
    return program
