"""Observability of a real server: one trace from a push to the end of its run, spans, metrics, log lines."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlmodel
import urllib3
from prometheus_client import parser

from fuseml.domain import events
from fuseml.runtime.telemetry import trace
from fuseml.store import database, outbox
from fuseml.store.tables import ledger_rows
from tests import documents
from tests.component import collector
from tests.embedded import servers
from tests.waiting import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CHAIN = {"org.fuseml.run.created.v1", "org.fuseml.run.started.v1", "org.fuseml.run.step_finished.v1", "org.fuseml.run.finished.v1"}


@pytest.fixture(scope="module")
def spans() -> Iterator[collector.Collector]:
    with collector.listening() as listening:
        yield listening


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, spans: collector.Collector) -> Iterator[servers.Server]:
    """A server that ran a workflow after a push and again by hand."""
    folder = tmp_path_factory.mktemp("observed")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": spans.url, "OTEL_BSP_SCHEDULE_DELAY": "200", "FUSEML_LOG_FORMAT": "json"}
    with servers.running(folder / "home", "--mlflow", "none", environment=environment) as running:
        running.post("/workflows", raw=documents.one_step("hello", "script: echo hello").encode())
        registered = running.post("/codesets?project=p&name=code")
        running.post("/workflows/assignments?name=hello&codesetProject=p&codesetName=code")
        checkout = servers.Checkout(folder / "code", registered["codeset"]["url"], "ada", registered["password"])
        checkout.push("hello")
        running.finished_run("hello-1")
        asked = {"workflow": "hello", "project": "p", "codeset": "code"}
        answer = running.call("POST", "/runs", asked, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        assert answer.status in (200, 201, 202), answer
        running.finished_run("hello-2")
        running.settled()
        yield running


def ledger(server: servers.Server) -> list[events.Event]:
    store = database.Database(f"sqlite:///{server.home / 'fuseml.db'}")
    with store.read() as session:
        rows = session.exec(sqlmodel.select(ledger_rows.LedgerEvent.event).order_by(sqlmodel.col(ledger_rows.LedgerEvent.sequence))).all()
    store.close()
    return [outbox.from_document(dict(row)) for row in rows]


def traces(server: servers.Server) -> dict[str, list[events.Event]]:
    """Trace id -> its events, in the order in which the broker took them."""
    found: dict[str, list[events.Event]] = {}
    for event in ledger(server):
        if event.type != events.TICK:
            context = trace.read(event.extensions)
            assert context is not None, f"{event.type} {event.id} belongs to no trace"
            found.setdefault(context.id, []).append(event)
    return found


def lines(server: servers.Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (server.home / "logs" / "server.log").read_text().splitlines()]


def test_a_push_and_its_effects_share_one_trace(server: servers.Server) -> None:
    (pushed,) = [group for group in traces(server).values() if any(event.type == events.CodesetPushed.TYPE for event in group)]
    types = {event.type for event in pushed}
    assert types >= {*CHAIN, events.CodesetPushed.TYPE, events.ArtifactRecorded.TYPE}
    assert {type for type in types if type.startswith(events.TEKTON_PREFIX)}, "the engine's events, too"
    assert pushed[0].type == events.CodesetPushed.TYPE
    ours = [event for event in ledger(server) if event.data.get("run") == "hello-1"]
    assert {event.id for event in ours} <= {event.id for event in pushed}
    assert server.get("/runs/hello-1")["trigger"]["traceparent"].split("-")[1] == trace.read(pushed[0].extensions).id  # type: ignore[union-attr]


def test_a_caller_s_trace_goes_on_to_the_end_of_the_run(server: servers.Server) -> None:
    types = [event.type for event in traces(server)[TRACE]]
    assert types[0] == events.RunRequested.TYPE
    assert set(types) >= CHAIN


def test_spans_have_the_same_traces(server: servers.Server, spans: collector.Collector) -> None:
    last = "handle dev.tekton.event.pipelinerun.successful.v1"
    wait_until(lambda: any(span.trace == TRACE for span in spans.named(last)), "the spans of the run's end")
    asked = {span.id: span for span in spans.spans if span.trace == TRACE}
    (request,) = [span for span in asked.values() if span.name == "POST /runs"]
    (handled,) = [span for span in asked.values() if span.name == f"handle {events.RunRequested.TYPE}"]
    assert request.parent == "b7ad6b7169203331"
    cause = handled
    while cause.parent in asked:
        cause = asked[cause.parent]
    assert cause == request
    assert spans.services == {"fuseml"}
    assert [span for span in spans.named("POST /webhooks/gitea") if span.failed] == []


def test_every_event_handled_is_one_line_with_its_trace(server: servers.Server) -> None:
    handled = [line for line in lines(server) if line["logger"] == "fuseml.events" and line.get("trace") == TRACE]
    assert {"dispatcher", "run_tracker"} <= {line["function"] for line in handled}
    assert {line["outcome"] for line in handled} == {"handled"}
    assert {line["run"] for line in handled} == {"hello-2"}


def test_the_terminal_of_a_container_gets_the_same_lines(server: servers.Server) -> None:
    printed = [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]
    assert {line["message"] for line in printed} >= {line["message"] for line in lines(server)[:20]}


def test_one_scrape_covers_all_functions(server: servers.Server) -> None:
    server.post("/resolve", {"selectors": [{"product": "fuseml"}], "context": {}})
    answer = urllib3.request("GET", server.url + "/metrics", retries=False)
    assert answer.status == 200, "no token is needed on this machine"
    samples = [sample for family in parser.text_string_to_metric_families(answer.data.decode()) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())

    assert value("fuseml_events_total", function="dispatcher", type=events.CodesetPushed.TYPE, outcome="handled") == 1
    assert value("fuseml_events_total", outcome="refused") == value("fuseml_events_total", outcome="failed") == 0
    assert value("fuseml_http_requests_total", function="gitea_ingress", route="/webhooks/gitea", status="202") >= 1
    assert value("fuseml_run_duration_seconds_count", state="succeeded") == 2
    assert value("fuseml_resolve_duration_seconds_count") >= 1
    assert [value(f"fuseml_{name}") for name in ("store_reachable", "dead_letters", "outbox_depth", "runs")] == [1, 0, 0, 0]
    assert len([sample for sample in samples if sample.name == "fuseml_store_reachable"]) == 1
    assert value("process_resident_memory_bytes") > 0


def test_the_terminal_shows_warnings_and_errors_only(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home", "--mlflow", "none") as server:
        server.post("/projects?name=quiet")
        server.stop()
        plain = [line for line in server.output.read_text().splitlines() if line.startswith(("{", "0", "1", "2"))]
        assert [line for line in plain if " warning: " not in line and " error: " not in line] == []
        assert f"  log     {server.home / 'logs' / 'server.log'}\n" in server.output.read_text()
