"""Log lines, for machines (one JSON object a line) and for people. All of a process go one way; nothing else sets handlers.

What belongs to a line besides its message is given as `extra={"fields": {...}}`: machines get it by name, people get the message.
"""

from __future__ import annotations

import json
import logging
import pathlib
import re
import sys

from fuseml.domain import errors, times
from fuseml.runtime.telemetry import trace

FORMATS = ("json", "text")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# They write past the root's handlers.
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
    """For people: time of day, level where it matters, message. A message stays on its line and cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        message = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.getMessage())
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.name}: {level}{message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def to_stderr(format: str, level: int = logging.INFO) -> None:
    """Send everything to the standard error, and only there. Raises PermanentError for an unknown format."""
    _handle([_stream(format, level)])


def to_file(path: pathlib.Path, format: str) -> None:
    """Everything goes to a file as JSON lines. The standard error shows people what is a warning at least, and machines (`json`) all.

    Raises PermanentError for an unknown format.
    """
    file = logging.FileHandler(path)
    file.setFormatter(JsonLines())
    _handle([file, _stream(format, logging.INFO if format == "json" else logging.WARNING)])


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
