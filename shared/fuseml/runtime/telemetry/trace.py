"""Which cause the present work goes back to: W3C trace context (https://www.w3.org/TR/trace-context), through requests and events.

Every HTTP request and every handled event continues the trace that it came with, or begins one; what they announce carries it on, so
that a push, its run and the run's end share one trace id. Without a recorder no spans of our own are made up: the parent is handed on.
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
# W3C trace context 3.3.1.5 asks for at least 512 characters to be handed on.
_STATE = re.compile(r"[\x20-\x7e]{1,512}")

Kind = Literal["server", "consumer"]
Attributes = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: `id` names the trace, `span` what is going on in it."""

    id: str
    span: str
    flags: str = "01"
    state: str = ""

    def carrier(self) -> dict[str, str]:
        """As HTTP headers and as extensions of an event."""
        parent = {"traceparent": f"00-{self.id}-{self.span}-{self.flags}"}
        return {**parent, "tracestate": self.state} if self.state else parent


@dataclass(slots=True)
class Open:
    """A piece of work that has not ended. Its name and attributes may be told until it does; `error.type` marks it as failed."""

    trace: Trace
    name: str
    attributes: Attributes = field(default_factory=dict)


class Recorded(Protocol):
    """A span that will be sent somewhere when it has ended."""

    trace: Trace

    def end(self, done: Open) -> None:
        """Send it off."""


class Recorder(Protocol):
    """Where spans are sent to."""

    def begin(self, name: str, kind: Kind, cause: Trace | None) -> Recorded:
        """A span now, below `cause`, or as the root of a new trace."""


_current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("fuseml_trace", default=None)
_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Record spans from now on, in the whole process; None ends it."""
    global _recorder  # noqa: PLW0603 - one process is watched by one recorder
    _recorder = recorder


def read(carrier: Mapping[str, str]) -> Trace | None:
    """The trace that headers or extensions tell of; None where they tell of none, or not by the rules (W3C trace context 3.2)."""
    found = _PARENT.fullmatch(carrier.get("traceparent", "").strip())
    if found is None:
        return None
    version, id, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not id.strip("0") or not span.strip("0"):
        return None
    state = carrier.get("tracestate", "").strip()
    # Of a later version only the flag that we know may be handed on.
    return Trace(id, span, flags if version == "00" else f"{int(flags, 16) & 1:02x}", state if _STATE.fullmatch(state) else "")


def new() -> Trace:
    """The beginning of a trace, to be recorded by whoever does so."""
    return Trace(os.urandom(16).hex(), os.urandom(8).hex())


def current() -> Trace | None:
    """The trace that this thread's work belongs to; None outside of any request."""
    return _current.get()


def outgoing() -> dict[str, str]:
    """What an event or request must carry to be a consequence of the present work."""
    trace = _current.get()
    return trace.carrier() if trace else {}


@contextlib.contextmanager
def continued(cause: Trace | None) -> Iterator[None]:
    """Work that belongs to another trace than the present one, where that is known."""
    token = _current.set(cause or _current.get())
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def span(name: str, kind: Kind, cause: Trace | None) -> Iterator[Open]:
    """A piece of work caused by `cause`; without one, a trace begins here."""
    recorded = _recorder.begin(name, kind, cause) if _recorder else None
    work = Open(recorded.trace if recorded else cause or new(), name)
    token = _current.set(work.trace)
    try:
        yield work
    except BaseException as error:
        work.attributes["error.type"] = type(error).__name__
        raise
    finally:
        _current.reset(token)
        if recorded:
            recorded.end(work)
