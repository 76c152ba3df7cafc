"""Spans, from real requests to a real receiver of OTLP."""

from __future__ import annotations

import pathlib
import socket
from collections.abc import Iterator

import pytest

from fuseml.domain import errors, events
from fuseml.runtime import catalog, cloudevents
from fuseml.runtime.telemetry import trace
from tests import databases, work
from tests.component import collector, endpoint

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def received() -> Iterator[collector.Collector]:
    """A collector that gets the spans of this process, all of them when the exporter is closed."""
    with collector.listening() as listening:
        from fuseml.runtime.telemetry import otlp

        exporter = otlp.Exporter("a-function", listening.url + "/")
        trace.record_with(exporter)
        listening.flush = exporter.close  # type: ignore[attr-defined]
        try:
            yield listening
        finally:
            trace.record_with(None)
            exporter.close()


@pytest.fixture
def function(tmp_path: pathlib.Path) -> Iterator[endpoint.Function]:
    store = databases.on_sqlite(tmp_path / "fuseml.db")
    yield endpoint.Function(store, endpoint.Publisher())
    store.close()


def event(id: str, flags: str) -> events.Event:
    carried = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "tracestate": "vendor=1"}
    return events.Event(endpoint.REGISTERED.type, "/s", id, None, endpoint.NOON, endpoint.REGISTERED.data, carried)


def test_requests_and_events_become_spans_below_their_cause(received: collector.Collector, function: endpoint.Function) -> None:
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    reply = cloudevents.decode(*_answer(function, event("1", "01")))
    function.trouble = errors.TemporaryError("the engine is away: canary")
    function.deliver(event("2", "01"))
    function.client.get("/healthz")
    received.flush()  # type: ignore[attr-defined]
    assert (received.paths, received.services) == ({"/v1/traces"}, {"a-function"})
    request, refused_request = received.named(f"POST {catalog.EVENTS}")
    handled, refused = received.named(f"handle {endpoint.REGISTERED.type}")
    assert (request.trace, request.parent, request.kind, request.failed) == (TRACE, PARENT, 2, False)
    assert (handled.trace, handled.parent, handled.kind, handled.failed) == (TRACE, request.id, 5, False)
    assert trace.read(reply.extensions) == trace.Trace(TRACE, handled.id, "01", "vendor=1")
    assert request.attributes == {"http.request.method": "POST", "http.route": catalog.EVENTS, "http.response.status_code": 200}
    assert handled.attributes == {
        "cloudevents.event_id": "1",
        "cloudevents.event_source": "/s",
        "cloudevents.event_type": endpoint.REGISTERED.type,
        "fuseml.function": "function",
        "fuseml.outcome": "handled",
        "fuseml.run": "w-1",
    }
    assert (refused.failed, refused.attributes["fuseml.outcome"]) == (True, "refused")
    assert (refused_request.failed, refused_request.attributes["http.response.status_code"]) == (True, 503)
    (health,) = received.named("GET /healthz")
    assert (health.parent, health.trace != TRACE) == ("", True)
    assert "canary" not in repr(received.spans)


def test_an_unsampled_trace_is_passed_on_and_not_recorded(received: collector.Collector, function: endpoint.Function) -> None:
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    reply = cloudevents.decode(*_answer(function, event("1", "00")))
    received.flush()  # type: ignore[attr-defined]
    assert received.spans == []
    carried = trace.read(reply.extensions)
    assert carried is not None
    assert (carried.id, carried.flags, carried.state) == (TRACE, "00", "vendor=1")


def test_an_outage_of_the_collector_delays_no_request(function: endpoint.Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    otlp = pytest.importorskip("fuseml.runtime.telemetry.otlp", reason="needs fuseml[telemetry]")
    exporter = otlp.Exporter("a-function", "http://127.0.0.1:9")
    trace.record_with(exporter)
    try:
        with work.recorded() as calls:
            assert function.deliver().status_code == 204
        assert not [call for call in calls if isinstance(getattr(call, "__self__", None), socket.socket)], "it waits for the network"
    finally:
        trace.record_with(None)
        exporter.close()


def _answer(function: endpoint.Function, delivered: events.Event) -> tuple[dict[str, str], bytes]:
    answer = function.deliver(delivered)
    return dict(answer.headers), answer.data
