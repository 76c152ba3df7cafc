"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP. Imported only where an endpoint is configured: it takes 150 ms."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import context
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk import resources
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import export

from fuseml.runtime.telemetry import trace

_KINDS: Mapping[trace.Kind, api.SpanKind] = {"server": api.SpanKind.SERVER, "consumer": api.SpanKind.CONSUMER}


class Exporter:
    """A recorder. The SDK's other OTEL_ variables (headers, sampler, resource attributes) keep their meaning: it reads them itself."""

    def __init__(self, service: str, endpoint: str) -> None:
        """`endpoint` is the collector's base address; the specification has `/v1/traces` added. Raises ValueError."""
        resource = resources.Resource.create({"service.name": service, "service.namespace": "fuseml"})
        self._provider = sdk.TracerProvider(resource=resource)
        exporter = trace_exporter.OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("fuseml")

    def begin(self, name: str, kind: trace.Kind, cause: trace.Trace | None) -> trace.Span:
        """See `trace.Recorder.begin`."""
        return _Span(self._tracer.start_span(name, context=_context(cause), kind=_KINDS[kind]), cause)

    def close(self) -> None:
        """Send the remaining spans; also done at the end of the process."""
        self._provider.shutdown()


class _Span:
    def __init__(self, span: api.Span, cause: trace.Trace | None) -> None:
        self._span = span
        current = span.get_span_context()
        state = current.trace_state.to_header() if current.trace_state else cause.state if cause else ""
        self.trace = trace.Trace(f"{current.trace_id:032x}", f"{current.span_id:016x}", f"{int(current.trace_flags):02x}", state)

    def end(self, work: trace.Work) -> None:
        """See `trace.Span.end`."""
        self._span.update_name(work.name)
        self._span.set_attributes(work.attributes)
        if "error.type" in work.attributes:
            self._span.set_status(api.StatusCode.ERROR)
        self._span.end()


def _context(cause: trace.Trace | None) -> context.Context:
    # An empty context, not None: the SDK would look for a current span of its own.
    if cause is None:
        return context.Context()
    state = api.TraceState.from_header([cause.state]) if cause.state else None
    flags = api.TraceFlags(int(cause.flags, 16))
    parent = api.SpanContext(int(cause.id, 16), int(cause.span, 16), is_remote=True, trace_flags=flags, trace_state=state)
    return api.set_span_in_context(api.NonRecordingSpan(parent), context.Context())
