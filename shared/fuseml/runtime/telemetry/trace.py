"""W3C trace context (https://www.w3.org/TR/trace-context) through requests and events.

Every HTTP request and every handled event continues the trace that it came with, or begins one; the events that it publishes carry the
trace on, so that a push, its run and the run's end share one trace id. Without a recorder no spans are made: the parent is passed on.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# W3C trace context 3.3.1.5 asks to pass on at least 512 characters.
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

Kind = Literal["server", "consumer"]
Attributes = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Trace:
    """A position in a trace: the ids of the trace and of the current span."""

    id: str
    span: str
    flags: str = "01"
    state: str = ""

    def carrier(self) -> dict[str, str]:
        """As HTTP headers and as extensions of an event."""
        parent = {"traceparent": f"00-{self.id}-{self.span}-{self.flags}"}
        return {**parent, "tracestate": self.state} if self.state else parent


@dataclass(slots=True)
class Work:
    """Work in progress. Its name and attributes may change until it ends; the attribute `error.type` marks a failure."""

    trace: Trace
    name: str
    attributes: Attributes = field(default_factory=dict)


class Span(Protocol):
    """A span that is sent to the collector after its end."""

    trace: Trace

    def end(self, work: Work) -> None:
        """Send it with the name and attributes of the work."""


class Recorder(Protocol):
    """A destination of spans."""

    def begin(self, name: str, kind: Kind, cause: Trace | None) -> Span:
        """Begin a span below `cause`, or as the root of a new trace."""


_current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("fuseml_trace", default=None)
_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Record spans in the whole process; None ends it."""
    global _recorder  # noqa: PLW0603 - one process has one recorder
    _recorder = recorder


def read(carrier: Mapping[str, str]) -> Trace | None:
    """The trace of headers or extensions; None without one, and for one that violates W3C trace context 3.2."""
    match = _PARENT.fullmatch(carrier.get("traceparent", "").strip())
    if match is None:
        return None
    version, id, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not id.strip("0") or not span.strip("0"):
        return None
    state = carrier.get("tracestate", "").strip()
    # Of a later version only the flag `sampled` may be passed on.
    return Trace(id, span, flags if version == "00" else f"{int(flags, 16) & 1:02x}", state if _STATE.fullmatch(state) else "")


def new() -> Trace:
    """The beginning of a trace."""
    return Trace(os.urandom(16).hex(), os.urandom(8).hex())


def current() -> Trace | None:
    """The trace of this thread's work; None outside of any request."""
    return _current.get()


def outgoing() -> dict[str, str]:
    """The carrier of the present trace, for events and requests that follow from the work."""
    trace = _current.get()
    return trace.carrier() if trace else {}


@contextlib.contextmanager
def continued(cause: Trace | None) -> Iterator[None]:
    """Work of another trace; of the present one if `cause` is None."""
    token = _current.set(cause or _current.get())
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def span(name: str, kind: Kind, cause: Trace | None) -> Iterator[Work]:
    """Work caused by `cause`; without a cause a new trace begins."""
    span = _recorder.begin(name, kind, cause) if _recorder else None
    work = Work(span.trace if span else cause or new(), name)
    token = _current.set(work.trace)
    try:
        yield work
    except BaseException as error:
        work.attributes["error.type"] = type(error).__name__
        raise
    finally:
        _current.reset(token)
        if span:
            span.end(work)
