"""Texts of the causes of failed steps."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from fuseml.engines.local import step_files

KILLED = 128 + signal.SIGKILL
_CAUSE_LINES, _CAUSE_BYTES = 3, 500
_TAIL = 8192
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def quoting(log: Path, cause: str, separator: str) -> str:
    """`cause`, followed by the end of the log after the last `separator`: at most three lines and 500 bytes."""
    try:
        with step_files.open_to_read(log.parent, log.name) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read(_TAIL).decode(errors="replace")
    except OSError as error:
        return f"{cause}; its log cannot be read: {error.strerror or error}"
    own = tail.rpartition(separator)[2]
    lines = [_CONTROL.sub("", line.rpartition("\r")[2]).rstrip() for line in own.replace("\r\n", "\n").split("\n")]
    kept = "\n".join([line for line in lines if line][-_CAUSE_LINES:])
    kept = kept.encode()[-_CAUSE_BYTES:].decode(errors="ignore")
    return f"{cause}: {kept}" if kept else cause


def signal_name(code: int) -> str:
    """The name of the signal that the exit code stands for, in parentheses."""
    if code <= 128:
        return ""
    try:
        return f" ({signal.Signals(code - 128).name}{', out of memory?' if code == KILLED else ''})"
    except ValueError:
        return ""


def size(limit: int) -> str:
    """Bytes in the largest unit that fits."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if limit >= size:
            return f"{limit / size:.4g} {unit}"
    return f"{limit} bytes"
