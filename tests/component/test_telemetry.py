"""Metrics and log lines of a function."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from prometheus_client import parser

from fuseml.domain import errors, events
from fuseml.runtime import catalog, clock, cloudevents, http
from fuseml.runtime.telemetry import logs, metrics, scrape
from fuseml.store import database, deliveries, outbox
from fuseml.store.tables import codeset_rows, run_rows
from tests import commands, event_keys
from tests.component import endpoint

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "vendor=1"}


@pytest.fixture
def store(sqlite_store: database.Database) -> database.Database:
    return sqlite_store


@pytest.fixture
def lines() -> Iterator[Any]:
    """The records of the log, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    log = logging.getLogger("fuseml.events")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def scraped(client: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples of a scrape, read by Prometheus' own parser."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content_type.partition(";")[0]) == (200, "text/plain")
    families = parser.text_string_to_metric_families(answer.text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def named(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


# Metrics


def test_deliveries_are_counted_by_type_and_outcome(function: endpoint.Function) -> None:
    before = scraped(function.client)
    function.deliver()
    function.deliver()
    function.trouble = errors.TemporaryError("the engine is away")
    another = events.Event(endpoint.REGISTERED.type, "/s", "2", None, endpoint.NOON, endpoint.REGISTERED.data)
    function.deliver(another)
    function.trouble = RuntimeError("a surprise")
    function.deliver(another)
    function.deliver(events.Event("com.example.made.up", "/s", "3", None, endpoint.NOON, {}))
    function.client.post(catalog.EVENTS, data=b"no event")
    now = scraped(function.client)

    def more(type: str, outcome: str) -> float:
        name = named("fuseml_events_total", function="function", type=type, outcome=outcome)
        return now.get(name, 0) - before.get(name, 0)

    outcomes = ("handled", "duplicate", "unknown", "refused", "failed")
    assert [more(endpoint.REGISTERED.type, outcome) for outcome in outcomes] == [1, 1, 0, 1, 1]
    assert [more("other", outcome) for outcome in outcomes] == [0, 0, 1, 1, 0], "foreign types do not become labels"
    timed = named("fuseml_event_duration_seconds_count", function="function", type=endpoint.REGISTERED.type)
    assert now[timed] - before.get(timed, 0) == 4


def test_requests_are_counted_by_the_template_of_their_route(function: endpoint.Function, store: database.Database) -> None:
    api = http.Api("shop", "A shop", tokens=None)

    @api.route("GET", "/things/<name>")
    def read_thing(name: str) -> dict[str, str]:
        """Read a thing."""
        if name == "none":
            raise errors.NotFoundError("no such thing")
        return {"name": name}

    client = api.app.test_client()
    for path in ("/things/a", "/things/b", "/things/none", "/canary/path", "/healthz"):
        client.get(path)
    client.open("/things/a", method="CANARY")
    found = {name: value for name, value in scraped(client).items() if ("function", "shop") in name[1]}
    counted = {
        tuple(dict(labels)[key] for key in ("method", "route", "status")): value
        for (name, labels), value in found.items()
        if name == "fuseml_http_requests_total"
    }
    assert counted == {
        ("GET", "/things/<name>", "200"): 2,
        ("GET", "/things/<name>", "404"): 1,
        ("GET", "other", "404"): 1,
        ("GET", "/healthz", "200"): 1,
        ("other", "other", "405"): 1,
    }  # fmt: skip
    assert found[named("fuseml_http_request_duration_seconds_count", function="shop", method="GET", route="/things/<name>")] == 3
    assert "canary" not in client.get("/metrics").text.lower()


def test_depths_are_read_from_the_store_at_each_scrape(store: database.Database, publisher: endpoint.Publisher) -> None:
    client = http.Api("one", "Speaks for all", tokens=None, store=store).app.test_client()
    empty = scraped(client)
    waiting = {gauge.name: empty[named(gauge.name)] for gauge in scrape.READ if not gauge.labels}
    assert waiting == {**dict.fromkeys(waiting, 0.0), "fuseml_store_reachable": 1.0}
    assert empty[named("fuseml_runs", state="queued")] == 0
    with store.write() as session:
        for number in range(3):
            event = events.Event("t", "/s", str(number), None, endpoint.NOON, {})
            deliveries.accept(session, event, ["a", "b"], clock.ago(3600 - number), 0)
        for delivery in deliveries.due(session, "b", 1, 2, []):
            deliveries.settle(session, delivery, state="dead", due=0, error="no")
        outbox.add(session, [endpoint.REGISTERED], clock.ago(3600))
    full = scraped(client)
    assert [full[named(f"fuseml_{name}")] for name in ("queue_depth", "dead_letters", "outbox_depth")] == [4, 2, 1]
    assert all(3600 <= full[named(f"fuseml_{name}_oldest_seconds")] < 3660 for name in ("queue", "outbox"))


def test_an_outage_of_the_store_is_reported_with_all_other_metrics(tmp_path: pathlib.Path) -> None:
    away = database.Database(f"sqlite:///{tmp_path}/no/such/folder/fuseml.db")
    client = http.Api("two", "Speaks for all", tokens=None, store=away).app.test_client()
    client.get("/healthz")
    found = scraped(client)
    assert found[named("fuseml_store_reachable")] == 0
    assert named("fuseml_queue_depth") not in found
    assert found[named("fuseml_http_requests_total", function="two", method="GET", route="/healthz", status="200")] == 1


def test_health_and_metrics_touch_the_database_only_where_depths_are_reported(store: database.Database) -> None:
    statements: list[str] = []
    connections: list[object] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    sqlalchemy.event.listen(store.engine, "checkout", lambda *given: connections.append(given))
    one = endpoint.Function(store, endpoint.Publisher()).client
    all = http.Api("all", "Speaks for all", tokens=None, store=store).app.test_client()
    for client in (one, all):
        assert client.get("/healthz").data == b"ok\n"
    scraped(one)
    assert (statements, connections) == ([], [])
    scraped(all)
    assert statements


def test_depths_use_indexes(store: database.Database) -> None:
    statements: list[tuple[str, Any]] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda *given: statements.append((given[2], given[3])))
    scraped(http.Api("all", "Speaks for all", tokens=None, store=store).app.test_client())
    asked = [(text, given) for text, given in statements if text.startswith("SELECT")]
    assert len(asked) >= len(scrape.READ) - 1
    with store.engine.connect() as connection:
        plans = [str(row[3]) for text, given in asked for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + text, given)]
    assert [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan and "outbox" not in plan] == []


def test_a_run_is_timed_when_its_transaction_is_committed(store: database.Database, publisher: endpoint.Publisher) -> None:
    client = http.Api("any", "Any", tokens=None).app.test_client()
    counted = named("fuseml_run_duration_seconds_count", state="cancelled")
    before = scraped(client).get(counted, 0)
    row = run_rows.Run(
        id="1", name="w-1", sequence=1, workflow="w", revision=1, project="p", trigger={}, inputs={}, state="cancelled",
        created="2026-11-21T12:00:00.000000Z", finished="2026-11-21T12:01:00.000000Z",
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError), store.write() as session:
        session.add(row)
        metrics.run_finished(session, row)
        raise ZeroDivisionError
    assert scraped(client).get(counted, 0) == before
    with store.write() as session:
        session.add(run_rows.Run.model_validate(row.model_dump()))
        metrics.run_finished(session, row)
    after = scraped(client)
    assert after[counted] == before + 1
    assert after[named("fuseml_run_duration_seconds_bucket", state="cancelled", le="60.0")] >= 1


def test_the_table_of_metrics_is_complete() -> None:
    text = (pathlib.Path(__file__).parents[2] / "infra" / "observability.md").read_text()
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.text} |" for metric in (*metrics.COUNTED, *scrape.READ)
    ]
    found = [re.sub(r"\s+\|", " |", line) for line in text.splitlines() if line.startswith("| `fuseml_")]
    assert found == [re.sub(r"\s+\|", " |", row) for row in rows], "\n".join(rows)


# Logs


def test_each_event_is_one_line_of_json_with_all_fields(function: endpoint.Function, lines: Any) -> None:
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    event = events.Event(endpoint.REGISTERED.type, "/s", "1", "demo/diabetes", endpoint.NOON, endpoint.REGISTERED.data, TRACED)
    function.deliver(event)
    function.deliver(event)
    function.client.post(catalog.EVENTS, data=b"{}")
    function.deliver(events.Event("com.example.made.up", "/s", "3", None, endpoint.NOON, {}, TRACED))
    taken, again, unread, unknown = lines()
    assert set(taken) == {
        "time",
        "level",
        "logger",
        "message",
        "trace",
        "type",
        "id",
        "source",
        "subject",
        "run",
        "function",
        "ms",
        "outcome",
    }
    assert {**taken, "time": "", "ms": 0} == {
        "time": "", "level": "info", "logger": "fuseml.events", "message": f"function: handled {event.type} 1", "trace": TRACE, "ms": 0,
        "type": event.type, "id": "1", "source": "/s", "subject": "demo/diabetes", "run": "w-1", "function": "function", "outcome": "handled",
    }  # fmt: skip
    assert taken["ms"] >= 0
    assert (again["outcome"], again["run"], again["trace"]) == ("duplicate", "w-1", TRACE)
    assert (unread["outcome"], unread["level"], unread["cause"]) == (
        "refused",
        "warning",
        "this is not a CloudEvent: it has no specversion, type, source, id",
    )
    assert (unknown["outcome"], unknown["level"], unknown["trace"]) == ("unknown", "info", TRACE)


def test_the_run_of_an_engine_s_event_is_named(function: endpoint.Function, lines: Any) -> None:
    metadata = {
        "labels": {"fuseml.io/run-id": "0123", "fuseml.io/run": "w-7"},
        "annotations": {"fuseml.io/traceparent": TRACED["traceparent"]},
    }
    function.deliver(
        events.Event("dev.tekton.event.taskrun.started.v1", "/s", "1", None, endpoint.NOON, {"taskRun": {"metadata": metadata}})
    )
    (line,) = lines()
    assert (line["run"], line["trace"]) == ("w-7", TRACE)


@pytest.mark.parametrize(
    "data", [{}, {"taskRun": None}, {"taskRun": {"metadata": []}}, {"taskRun": {"metadata": {"labels": None, "annotations": 1}}}]
)
def test_an_engine_s_event_of_another_shape_is_handled(function: endpoint.Function, lines: Any, data: dict[str, Any]) -> None:
    assert function.deliver(events.Event("dev.tekton.event.taskrun.started.v1", "/s", "1", None, endpoint.NOON, data)).status_code == 204
    (line,) = lines()
    assert "run" not in line
    assert len(line["trace"]) == 32


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("fuseml.test", level, __file__, 1, message, None, None)


def test_control_characters_of_a_message_are_escaped_for_people() -> None:
    line = logs.Text().format(record("ü \x1b[2J\n12:00:00 forged", logging.WARNING))
    assert re.fullmatch(r"\d\d:\d\d:\d\d fuseml\.test: warning: ü \\x1b\[2J\\x0a12:00:00 forged", line)


def test_machines_get_a_traceback_in_its_line() -> None:
    try:
        raise ZeroDivisionError("canary")
    except ZeroDivisionError:
        failed = logging.LogRecord("fuseml.test", logging.ERROR, __file__, 1, "failed\nhere", None, sys.exc_info())
    line = logs.JsonLines().format(failed)
    assert "\n" not in line
    assert "ZeroDivisionError: canary" in json.loads(line)["exception"]


CONFIGURED = """
import logging, sys
from fuseml.runtime import settings, telemetry
server = logging.getLogger("gunicorn.error")
server.addHandler(logging.StreamHandler(sys.stdout)); server.propagate = False
telemetry.configure("a_function", settings.Settings.from_env(dict(entry.split("=", 1) for entry in sys.argv[2:])))
exec(sys.argv[1])
"""


def configured(code: str, *environment: str) -> subprocess.CompletedProcess[str]:
    return commands.python(CONFIGURED, code, *environment, code=None)


def test_all_lines_of_a_function_are_json_also_those_of_its_server() -> None:
    process = configured("server.error('from the server'); logging.getLogger('x').info('from %s', 'a library')")
    assert (process.returncode, process.stdout) == (0, "")
    assert [json.loads(line)["message"] for line in process.stderr.splitlines()] == ["from the server", "from a library"]
    assert [sorted(json.loads(line)) for line in process.stderr.splitlines()] == [["level", "logger", "message", "time"]] * 2


def test_the_log_format_is_json_or_text() -> None:
    process = configured("logging.getLogger('x').info('hello')", "FUSEML_LOG_FORMAT=text")
    assert re.fullmatch(r"\d\d:\d\d:\d\d x: hello\n", process.stderr)
    with pytest.raises(errors.PermanentError, match="FUSEML_LOG_FORMAT is 'xml'; it must be json or text"):
        logs.to_stderr("xml")


MISSING = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http'] = None\n"


def test_a_missing_exporter_is_logged_once_and_stops_nothing() -> None:
    code = MISSING + CONFIGURED + "\nfrom fuseml.runtime.telemetry import trace\nwith trace.span('x', 'server', None): print('works')"
    process = commands.python(code, "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9")
    assert process.stdout == "works\n"
    (line,) = [json.loads(line) for line in process.stderr.splitlines()]
    assert line["level"] == "warning"
    assert "install fuseml[telemetry], or unset it" in line["message"]


def test_unused_packages_are_not_imported() -> None:
    process = configured("print(sorted(name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'prometheus_client')))")
    assert process.stdout == "[]\n"


def test_an_error_of_the_database_shows_no_values(store: database.Database) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError) as caught, store.write() as session:
        for _ in range(2):
            session.add(codeset_rows.Project(name="canary-7", created=endpoint.NOON))
            session.flush()
            session.expunge_all()
    assert "INSERT INTO project" in str(caught.value)
    assert "canary-7" not in str(caught.value)


# Traces through HTTP


def carried(event: events.Event) -> dict[str, str]:
    return {name: text for name, text in event.extensions.items() if name.startswith("trace")}


def test_events_of_a_request_belong_to_its_trace(store: database.Database, publisher: endpoint.Publisher) -> None:
    api = http.Api("announcer", "Announces", tokens=None)

    @api.route("POST", "/announce")
    def announce() -> None:
        """Publish an event."""
        with store.write() as session:
            announced = cloudevents.enqueue(session, events.RunStarted(run="w-1", workflow="w", project="demo"))
        cloudevents.relay(store, publisher, announced)

    client = api.app.test_client()
    client.post("/announce", headers=TRACED)
    client.post("/announce")
    client.post("/announce", headers={"traceparent": "00-nonsense"})
    first, second, third = (event.extensions for event in publisher.events)
    assert first == TRACED
    assert set(second) == set(third) == {"traceparent"}
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", second["traceparent"])
    assert second != third


def test_events_of_a_handler_belong_to_its_trace_in_the_reply_and_through_the_outbox(
    function: endpoint.Function, publisher: endpoint.Publisher
) -> None:
    event = events.Event(endpoint.REGISTERED.type, "/s", "1", None, endpoint.NOON, endpoint.REGISTERED.data, TRACED)
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    headers, body = event_keys.encode(event)
    for _ in range(2):
        answer = function.client.post(catalog.EVENTS, headers={**headers, "traceparent": f"00-{'c' * 32}-{'d' * 16}-01"}, data=body)
        assert carried(cloudevents.decode(dict(answer.headers), answer.data)) == TRACED, "the event's own trace, not the broker's"
    function.payloads = [*function.payloads, events.RunStarted(run="w-2", workflow="w", project="demo")]
    second = event_keys.SIGNER.sign(dataclasses.replace(event, id="2"))
    attributes = {"type": event.type, "source": "/s", "id": "2", "time": event.time, **second.extensions}
    structured = {"specversion": "1.0", **attributes, "data": dict(event.data)}
    assert (
        function.client.post(catalog.EVENTS, json=structured, headers={"content-type": "application/cloudevents+json"}).status_code == 204
    )
    assert [carried(announced) for announced in publisher.events] == [TRACED, TRACED]


def test_an_event_without_a_trace_continues_that_of_its_delivery(function: endpoint.Function) -> None:
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    headers, body = event_keys.encode(endpoint.REGISTERED)
    answer = function.client.post(catalog.EVENTS, headers={**headers, **TRACED}, data=body)
    assert carried(cloudevents.decode(dict(answer.headers), answer.data)) == TRACED
