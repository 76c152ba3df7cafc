"""Texts of the causes of failed steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from fuseml.domain.runs import causes
from fuseml.engines import step_files
from fuseml.engines.local.host import StepLimits
from fuseml.processes import supervisor

KILLED = 128 + signal.SIGKILL


def explained(log: Path, ended: str, separator: str, roots: Iterable[str]) -> str:
    """The cause of an attempt that `ended` in this way, with the end of its log, which begins after the last `separator`.

    `roots` are the folders of the user's code.
    """
    try:
        tail = _tail(log)
    except OSError as error:
        return f"{ended}; its log cannot be read: {error.strerror or error}"
    return causes.explain(ended, tail.rpartition(separator)[2], roots)


def last_line(log: Path) -> str:
    """The last line of a log. Raises OSError when it cannot be read."""
    return next((line.strip() for line in reversed(_tail(log).splitlines()) if line.strip()), "")


def _tail(log: Path) -> str:
    """The end of a log, in whole lines."""
    with step_files.open_to_read(log.parent, log.name) as file:
        file.seek(0, os.SEEK_END)
        begin = max(0, file.tell() - causes.TAIL)
        file.seek(begin)
        tail = file.read(causes.TAIL).decode(errors="replace")
    return (tail.partition("\n")[2] or tail) if begin else tail


def signal_name(code: int) -> str:
    """The name of the signal that the exit code stands for, in parentheses."""
    if code <= 128:
        return ""
    try:
        return f" ({signal.Signals(code - 128).name}{', out of memory?' if code == KILLED else ''})"
    except ValueError:
        return ""


def exceeded(reason: str, limits: StepLimits) -> str:
    """The cause of an end by the supervisor, by its reason; empty for any other reason."""
    match reason:
        case supervisor.TOO_MUCH_LOG:
            what, limit, setting = "it printed", limits.log, "FUSEML_STEP_LOG_LIMIT"
        case supervisor.TOO_MUCH_DISK:
            what, limit, setting = "it wrote", limits.disk, "FUSEML_STEP_DISK_LIMIT"
        case _:
            return ""
    return f"{what} more than {size(limit)}; the server's setting {setting} has the limit"


def size(limit: int) -> str:
    """Bytes in the largest unit that fits."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if limit >= size:
            return f"{limit / size:.4g} {unit}"
    return f"{limit} bytes"
