"""Observation of one delivery of an event: one line in the log, one span, one count."""

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

Outcome = Literal["handled", "duplicate", "unknown", "unsigned", "refused", "failed"]

_BAD: frozenset[Outcome] = frozenset({"unsigned", "refused", "failed"})
_log = logging.getLogger("fuseml.events")
# The set of Tekton's event types (infra/platform-facts.md 2.2) is bounded.
_TEKTON = re.compile(
    re.escape(events.TEKTON_PREFIX) + r"(pipelinerun|taskrun|customrun)\.(queued|started|running|successful|failed|unknown)\.v1"
)


class Handling:
    """The result of a delivery: set `outcome` and, if it is not accepted, `cause`; `caused` are the events that follow from it."""

    def __init__(self, function: str) -> None:
        self.outcome: Outcome = "handled"
        self.cause = ""
        self.caused: Sequence[events.Event] = ()
        self._function = function
        self._event: events.Event | None = None
        self._work: trace.Work | None = None
        self._begun = time.perf_counter()
        self._stack = contextlib.ExitStack()

    def begin(self, event: events.Event) -> None:
        """The delivery is this event; all further work belongs to its trace."""
        self._event = event
        self._work = self._stack.enter_context(trace.span(f"handle {label(event.type)}", "consumer", cause(event)))

    def __enter__(self) -> Handling:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._begun
        type = label(self._event.type) if self._event else "other"
        metrics.EVENTS.count(self._function, type, self.outcome)
        metrics.EVENT_SECONDS.observe(seconds, self._function, type)
        self._log_line(seconds)
        self._end_span()
        self._stack.close()

    def _log_line(self, seconds: float) -> None:
        fields: dict[str, object] = {"function": self._function, "outcome": self.outcome, "ms": round(seconds * 1000, 1)}
        subject = "an event that cannot be decoded"
        if self._event is not None:
            subject = f"{self._event.type} {self._event.id}"
            fields |= {"type": self._event.type, "id": self._event.id, "source": self._event.source, "subject": self._event.subject}
            run = run_of(self._event, self.caused)
            if run:
                fields["run"] = run
        if self.cause:
            fields["cause"] = self.cause
        message = f"{self._function}: {self.outcome} {subject}" + (f": {self.cause}" if self.cause else "")
        _log.log(logging.WARNING if self.outcome in _BAD else logging.INFO, message, extra={"fields": fields})

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
        run = run_of(self._event, self.caused)
        if run:
            self._work.attributes["fuseml.run"] = run
        if self.outcome in _BAD:
            self._work.attributes["error.type"] = self.outcome


def label(type: str) -> str:
    """The event type as a label; foreign types are `other`, so that the number of labels is bounded."""
    return type if type in events.PAYLOADS or type == events.TICK or _TEKTON.fullmatch(type) else "other"


def cause(event: events.Event) -> trace.Trace | None:
    """The trace of an event: its own, that of the engine's object in it, else that of the request that delivered it."""
    annotations = _metadata(event).get("annotations") or {}
    own = trace.read(event.extensions) or trace.read({"traceparent": str(annotations.get(TRACE_ANNOTATION, ""))})
    present = trace.current()
    # The request belongs to the event's trace already: the handling is a part of it.
    return present if own is None or (present and present.id == own.id) else own


def run_of(event: events.Event, caused: Sequence[events.Event]) -> str | None:
    """The run that an event, or one that it caused, names."""
    for each in (event, *caused):
        if isinstance(each.data.get("run"), str):
            return str(each.data["run"])
    labels = _metadata(event).get("labels") or {}
    return next((str(labels[name]) for name in (NAME_LABEL, RUN_LABEL) if name in labels), None)


def _metadata(event: events.Event) -> Mapping[str, Mapping[str, object]]:
    """The metadata of the engine's object in an event of Tekton's kind."""
    if not event.type.startswith(events.TEKTON_PREFIX):
        return {}
    for kind in ("pipelineRun", "taskRun"):
        body = event.data.get(kind)
        metadata = body.get("metadata") if isinstance(body, dict) else None
        if isinstance(metadata, dict):
            return {name: value for name, value in metadata.items() if isinstance(value, dict)}
    return {}
