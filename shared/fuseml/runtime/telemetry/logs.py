"""Log lines, for machines (one JSON object a line) and for people. This module alone sets the handlers of a process.

Fields of a line come as `extra={"fields": {...}}`: machines get them by name, people get the message.
"""

from __future__ import annotations

import json
import logging
import pathlib
import re
import shutil
import sys
from dataclasses import dataclass

from fuseml.domain import errors, times
from fuseml.runtime.telemetry import trace

FORMATS = ("json", "text")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Their loggers bypass the root's handlers.
_SERVERS = ("gunicorn.error", "gunicorn.access", "werkzeug")


class JsonLines(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, the fields, `trace`, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": times.from_unix(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        present = trace.current()
        if present is not None:
            line["trace"] = present.id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Text(logging.Formatter):
    """For people: time of day, level from warning on, message. Control characters are escaped: a message stays on its line and cannot
    control the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        message = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", record.getMessage())
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.name}: {level}{message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def to_stderr(format: str, level: int = logging.INFO) -> None:
    """Write all records to the standard error only. Raises PermanentError for an unknown format."""
    _handle([_stream(format, level)])


@dataclass(frozen=True, slots=True)
class Rotation:
    """A log file of more than `size` bytes becomes `NAME.1`, and `NAME.1` becomes `NAME.2`; `kept` such files stay."""

    size: int = 10 << 20
    kept: int = 5


DEFAULT_ROTATION = Rotation()


def to_file(path: pathlib.Path, format: str, rotation: Rotation) -> None:
    """Write all records to a file as JSON lines. The standard error gets warnings and errors as `text`, all records as `json`.

    Raises PermanentError for an unknown format.
    """
    from logging import handlers

    # With 0 kept files the handler would not rotate.
    file = handlers.RotatingFileHandler(path, maxBytes=rotation.size, backupCount=max(1, rotation.kept))
    file.setFormatter(JsonLines())
    _handle([file, _stream(format, logging.INFO if format == "json" else logging.WARNING)])


def rotate(path: pathlib.Path, rotation: Rotation) -> None:
    """Rotate a log to which a running process appends: its content is copied, because the process keeps the file open.

    Lines that the process writes during the copy may be lost.
    """
    if not path.exists() or path.stat().st_size <= rotation.size:
        return
    for number in range(rotation.kept, 0, -1):
        former = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        target = path.with_name(f"{path.name}.{number}")
        if number > 1 and former.exists():
            former.replace(target)
        elif number == 1:
            shutil.copyfile(former, target)
    with path.open("r+b") as file:
        file.truncate()


def _stream(format: str, level: int) -> logging.Handler:
    if format not in FORMATS:
        raise errors.PermanentError(f"FUSEML_LOG_FORMAT is {format!r}; it must be {' or '.join(FORMATS)}")
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines() if format == "json" else Text())
    stream.setLevel(level)
    return stream


def _handle(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.INFO)
    for name in _SERVERS:
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True
