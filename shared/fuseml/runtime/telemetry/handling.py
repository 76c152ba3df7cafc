"""The handling of one delivered event, as it is seen from outside: one line in the log, one span, one count."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal

from fuseml.domain import events
from fuseml.domain.labels import NAME_LABEL, RUN_LABEL, TRACE_ANNOTATION
from fuseml.runtime.telemetry import metrics, trace

Outcome = Literal["handled", "duplicate", "unknown", "refused", "failed"]

_log = logging.getLogger("fuseml.events")
# The types of Tekton's events (infra/platform-facts.md 2.2) are many, but not without end.
_TEKTON = re.compile(
    re.escape(events.TEKTON_PREFIX) + r"(pipelinerun|taskrun|customrun)\.(queued|started|running|successful|failed|unknown)\.v1"
)


class Handling:
    """What becomes of a delivery: set `outcome` and, where it was not taken, `cause`; `announced` is what followed from it."""

    def __init__(self, function: str) -> None:
        self.outcome: Outcome = "handled"
        self.cause = ""
        self.announced: Sequence[events.Event] = ()
        self._function = function
        self._event: events.Event | None = None
        self._work: trace.Open | None = None
        self._begun = time.perf_counter()
        self._stack = contextlib.ExitStack()

    def begin(self, event: events.Event) -> None:
        """The delivery is this event; what is done from now on belongs to its trace."""
        self._event = event
        self._work = self._stack.enter_context(trace.span(f"handle {label(event.type)}", "consumer", cause(event)))

    def __enter__(self) -> Handling:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._begun
        type = label(self._event.type) if self._event else "other"
        metrics.EVENTS.count(self._function, type, self.outcome)
        metrics.EVENT_SECONDS.observe(seconds, self._function, type)
        self._tell(seconds)
        self._end_span()
        self._stack.close()

    def _tell(self, seconds: float) -> None:
        fields: dict[str, object] = {"function": self._function, "outcome": self.outcome, "ms": round(seconds * 1000, 1)}
        what = "an event that could not be read"
        if self._event is not None:
            what = f"{self._event.type} {self._event.id}"
            fields |= {"type": self._event.type, "id": self._event.id, "source": self._event.source, "subject": self._event.subject}
            named = run_of(self._event, self.announced)
            if named:
                fields["run"] = named
        if self.cause:
            fields["cause"] = self.cause
        message = f"{self._function}: {self.outcome} {what}" + (f": {self.cause}" if self.cause else "")
        _log.log(logging.WARNING if self.outcome in ("refused", "failed") else logging.INFO, message, extra={"fields": fields})

    def _end_span(self) -> None:
        if self._work is None or self._event is None:
            return
        self._work.attributes |= {
            "cloudevents.event_id": self._event.id,
            "cloudevents.event_source": self._event.source,
            "cloudevents.event_type": self._event.type,
            "fuseml.function": self._function,
            "fuseml.outcome": self.outcome,
        }
        named = run_of(self._event, self.announced)
        if named:
            self._work.attributes["fuseml.run"] = named
        if self.outcome in ("refused", "failed"):
            self._work.attributes["error.type"] = self.outcome


def label(type: str) -> str:
    """The event type as a label: only those that we know, so that nobody can fill the memory with labels."""
    return type if type in events.PAYLOADS or type == events.TICK or _TEKTON.fullmatch(type) else "other"


def cause(event: events.Event) -> trace.Trace | None:
    """The trace that an event goes on: its own, that of the engine's object that it tells of, else that of the request that brought it."""
    noted = _metadata(event).get("annotations") or {}
    told = trace.read(event.extensions) or trace.read({"traceparent": str(noted.get(TRACE_ANNOTATION, ""))})
    present = trace.current()
    # The request belongs to the event's trace already: the handling is a part of it.
    return present if told is None or (present and present.id == told.id) else told


def run_of(event: events.Event, announced: Sequence[events.Event]) -> str | None:
    """The run that an event is about, or that came of it, where one is named."""
    for known in (event, *announced):
        if isinstance(known.data.get("run"), str):
            return str(known.data["run"])
    labels = _metadata(event).get("labels") or {}
    return next((str(labels[name]) for name in (NAME_LABEL, RUN_LABEL) if name in labels), None)


def _metadata(event: events.Event) -> Mapping[str, Mapping[str, object]]:
    """The metadata of the engine's object that an event of Tekton's kind tells of."""
    if not event.type.startswith(events.TEKTON_PREFIX):
        return {}
    for kind in ("pipelineRun", "taskRun"):
        body = event.data.get(kind)
        metadata = body.get("metadata") if isinstance(body, dict) else None
        if isinstance(metadata, dict):
            return {name: value for name, value in metadata.items() if isinstance(value, dict)}
    return {}
