"""A collector of spans for tests: receives OTLP over HTTP, as a real one does, and keeps the spans."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import server
from typing import Any

import pytest


@dataclass(frozen=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: dict[str, str | int]


class Collector(server.ThreadingHTTPServer):
    """Listens on a free port; `spans` are in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> Sequence[Span]:
        return [span for span in self.spans if span.name == name]


class _Handler(server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        self.server.paths.add(self.path)
        for resource in request.resource_spans:
            self.server.services.add(str(_plain(resource.resource.attributes).get("service.name")))
            self.server.spans += [_span(span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No log lines: tests look at the spans."""


def _span(span: Any) -> Span:
    failed = span.status.code == 2
    return Span(span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.kind, failed, _plain(span.attributes))


def _plain(attributes: Any) -> dict[str, str | int]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}


@contextlib.contextmanager
def listening() -> Iterator[Collector]:
    """A collector, as long as the block lasts; skips where the protocol's package is missing."""
    pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs fuseml[telemetry]")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs fuseml[telemetry]")
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
