"""Events in: the rules of an event endpoint."""

from __future__ import annotations

import dataclasses
import json
import string
import urllib.parse
from concurrent import futures

import cloudevents.http as sdk
import pytest
from cloudevents import conversion
from hypothesis import assume, given
from hypothesis import strategies as st

from fuseml.domain import errors, events, signature
from fuseml.runtime import catalog, cloudevents, http
from fuseml.store.tables import outbox_rows
from tests.component import endpoint

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


# Reading and writing


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
_name = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12).filter(
    lambda name: (
        name not in {"specversion", "type", "source", "id", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}
    )
)
_event = st.builds(
    events.Event,
    type=_text,
    source=_text,
    id=_text,
    subject=st.none() | _text,
    time=_text,
    data=st.dictionaries(_text, st.none() | st.integers() | _text | st.lists(st.booleans()), max_size=3),
    extensions=st.dictionaries(_name, _text, max_size=3),
)


@given(_event)
def test_every_event_survives_binary_mode(event: events.Event) -> None:
    headers, body = cloudevents.encode(event)
    for value in headers.values():
        assert all("!" <= character <= "~" and character != '"' for character in value), "the HTTP binding's rule for header values"
    assert cloudevents.decode({name.title(): value for name, value in headers.items()}, body) == event


@given(_event)
def test_every_event_survives_structured_mode(event: events.Event) -> None:
    envelope = {
        "specversion": "1.0",
        "type": event.type,
        "source": event.source,
        "id": event.id,
        "subject": event.subject,
        "time": event.time,
    }
    body = json.dumps({**envelope, **event.extensions, "data": event.data}).encode()
    assert cloudevents.decode({"content-type": "application/cloudevents+json; charset=utf-8"}, body) == event


def test_headers_are_percent_encoded_both_ways() -> None:
    event = events.Event("t", "/a b", '50% "ü" €', "x/y", endpoint.NOON, {})
    headers, _ = cloudevents.encode(event)
    assert (headers["ce-source"], headers["ce-id"], headers["ce-subject"]) == ("/a%20b", "50%25%20%22%C3%BC%22%20%E2%82%AC", "x/y")


@given(_event)
def test_events_of_the_sdk_are_read_in_both_modes(event: events.Event) -> None:
    assume("extensions" not in event.extensions)  # the SDK cannot write it
    attributes = {"type": event.type, "source": event.source, "id": event.id, "time": event.time, **event.extensions}
    sent = sdk.CloudEvent({**attributes, **({"subject": event.subject} if event.subject else {})}, event.data)
    headers, body = conversion.to_structured(sent)
    assert cloudevents.decode(headers, body) == event
    headers, body = conversion.to_binary(sent)
    quoted = {name: urllib.parse.quote(value) for name, value in headers.items()}
    assert cloudevents.decode(quoted, body) == event


@pytest.mark.parametrize("name", ["data", "extensions"])
def test_an_extension_with_the_name_of_a_field_of_the_sdk_survives(name: str) -> None:
    event = events.Event("t", "/s", "1", None, endpoint.NOON, {"a": 1}, {name: "50 %", "other": "x"})
    assert cloudevents.decode(*cloudevents.encode(event)) == event


def test_a_delivery_of_tekton_is_decoded() -> None:
    headers = {
        "Ce-Id": "1",
        "Ce-Source": "/apis///x",
        "Ce-Specversion": "1.0",
        "Ce-Type": "t",
        "Ce-Time": endpoint.NOON,
        "Content-Type": "application/json",
    }
    event = cloudevents.decode(headers, b'{"taskRun": {}}')
    assert event == events.Event("t", "/apis///x", "1", None, endpoint.NOON, {"taskRun": {}})


def structured(**attributes: object) -> bytes:
    return json.dumps({"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "time": endpoint.NOON, **attributes}).encode()


def test_attributes_of_the_structured_mode_become_text() -> None:
    body = structured(subject=None, attempts=3, final=True, datacontenttype="application/json", data=None)
    event = cloudevents.decode({"Content-Type": "application/cloudevents+json"}, body)
    assert event == events.Event("t", "/s", "1", None, endpoint.NOON, {}, {"attempts": "3", "final": "true"})


BINARY = {"ce-specversion": "1.0", "ce-type": endpoint.REGISTERED.type, "ce-source": "/s", "ce-id": "1"}
JSON = {"content-type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    ("headers", "body", "cause"),
    [
        ({"content-type": "application/json"}, b"{}", "this is not a CloudEvent: it has no specversion, type, source, id"),
        ({**BINARY, "ce-id": ""}, b"{}", "this is not a CloudEvent: it has no id"),
        ({**BINARY, "ce-specversion": "0.3"}, b"{}", "CloudEvents 0.3 is not understood; send version 1.0"),
        (BINARY, b"{", "the event's data is not valid JSON: "),
        (BINARY, b"[1]", "the event's data must be a JSON object"),
        (BINARY, b'{"a": "\\ud800"}', "the event's data is not valid JSON: "),
        (BINARY, b'{"a": NaN}', "the event's data is not valid JSON: NaN is not JSON"),
        (BINARY, b"[" * 100_000, "the event's data is not valid JSON: "),
        ({**BINARY, "content-type": "text/plain"}, b"hello", "the event's data is not valid JSON: "),
        (
            {"content-type": "application/cloudevents-batch+json"},
            b"[]",
            "batches of CloudEvents are not accepted; send one event a request",
        ),
        (JSON, b"{", "the event is not valid JSON: "),
        (JSON, b"[]", "a structured CloudEvent must be a JSON object"),
        (JSON, structured(id=None), "this is not a CloudEvent: it has no id"),
        (JSON, structured(specversion="2.0"), "CloudEvents 2.0 is not understood"),
        (JSON, structured(data="text"), "the event's data must be a JSON object"),
        (JSON, structured(data_base64="aGk="), "the event's data must be JSON, not base64"),
        (JSON, structured(source={"a": 1}), "the event's attribute 'source' must be text, a whole number or a boolean"),
    ],
)
def test_a_message_that_is_no_event_is_refused_with_its_cause(
    function: endpoint.Function, headers: dict[str, str], body: bytes, cause: str
) -> None:
    answer = function.client.post(catalog.EVENTS, headers=headers, data=body)
    assert (answer.status_code, answer.content_type) == (400, "text/plain; charset=utf-8")
    assert answer.text.startswith(cause)
    assert function.afters == []


def test_a_body_that_is_too_large_is_refused(function: endpoint.Function) -> None:
    answer = function.client.post(catalog.EVENTS, headers=BINARY, data=bytes(http.MAX_BODY + 1))
    assert (answer.status_code, answer.content_type) == (413, "text/plain; charset=utf-8")


# Answers


def test_a_handler_without_events_gives_an_empty_response(function: endpoint.Function) -> None:
    answer = function.deliver()
    assert (answer.status_code, answer.data) == (204, b"")
    assert function.effects() == 1


def test_one_event_of_a_handler_is_the_reply(function: endpoint.Function, publisher: endpoint.Publisher) -> None:
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    answer = function.deliver(
        events.Event(
            endpoint.REGISTERED.type, "/s", "1", None, endpoint.NOON, endpoint.REGISTERED.data, {"traceparent": TRACEPARENT, "other": "x"}
        )
    )
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    reply = cloudevents.decode(answer.headers, answer.data)
    assert events.read(reply) == function.payloads[0]
    assert signature.detach(reply).extensions == {"traceparent": TRACEPARENT, "causesource": "/s", "causeid": "1"}
    assert publisher.events == []
    assert endpoint.count(function.store, outbox_rows.Outbox) == 0


def test_several_events_of_a_handler_are_published_in_order_and_the_response_is_empty(
    function: endpoint.Function, publisher: endpoint.Publisher
) -> None:
    function.payloads = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(3)]
    assert function.deliver().status_code == 204
    assert [events.read(event) for event in publisher.events] == function.payloads
    assert endpoint.count(function.store, outbox_rows.Outbox) == 0


def test_a_duplicate_gets_the_same_reply_and_has_no_effect(function: endpoint.Function) -> None:
    function.payloads = [events.CodesetRemoved(project="demo", codeset="diabetes")]
    first, again = function.deliver(), function.deliver()
    assert (again.status_code, again.data, again.headers["ce-id"]) == (200, first.data, first.headers["ce-id"])
    assert function.effects() == 1
    function.payloads = []
    assert (
        function.deliver(
            events.Event(endpoint.REGISTERED.type, "/other", endpoint.REGISTERED.id + "x", None, endpoint.NOON, endpoint.REGISTERED.data)
        ).status_code
        == 204
    )
    assert function.effects() == 2


def test_a_handled_event_is_answered_without_its_facts(function: endpoint.Function) -> None:
    informed = dataclasses.replace(endpoint.REGISTERED, type="informed.of-facts")
    function.facts = None
    assert function.deliver(informed).status_code == 503
    assert (function.effects(), function.afters) == (0, [])
    function.facts, function.payloads = "known", [events.RunStarted(run="w-1", workflow="w", project="demo")]
    first = function.deliver(informed)
    function.facts = None
    again = function.deliver(informed)
    assert (again.status_code, again.data, again.headers["ce-id"]) == (200, first.data, first.headers["ce-id"])
    assert (function.effects(), function.afters) == (1, [informed.id] * 2)


def test_the_work_after_the_commit_is_done_at_every_delivery(function: endpoint.Function) -> None:
    function.trouble_after = errors.TemporaryError("the engine is away")
    function.payloads = [events.RunStarted(run="w-1", workflow="w", project="demo")]
    assert function.deliver().status_code == 503
    assert function.effects() == 1
    function.trouble_after = None
    answer = function.deliver()
    assert answer.status_code == 200
    assert events.read(cloudevents.decode(answer.headers, answer.data)) == function.payloads[0]
    assert function.afters == [endpoint.REGISTERED.id] * 2


def test_an_error_after_the_commit_does_not_hold_back_the_events(function: endpoint.Function, publisher: endpoint.Publisher) -> None:
    function.trouble_after = errors.TemporaryError("the engine is away")
    function.payloads = [events.RunStarted(run=f"w-{number}", workflow="w", project="demo") for number in range(2)]
    assert function.deliver().status_code == 503
    assert len(publisher.events) == 2


def test_the_same_event_in_eight_threads_has_one_effect_and_one_reply(function: endpoint.Function) -> None:
    function.payloads = [events.CodesetRemoved(project="demo", codeset="diabetes")]
    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: function.deliver(), range(8)))
    assert {(answer.status_code, answer.headers["ce-id"]) for answer in answers} == {(200, answers[0].headers["ce-id"])}
    assert function.effects() == 1


def test_types_without_a_handler_are_accepted_and_not_recorded(function: endpoint.Function) -> None:
    answer = function.deliver(events.Event("org.other.v1", "/s", "1", None, endpoint.NOON, {}))
    assert (answer.status_code, answer.data) == (204, b"")
    assert endpoint.count(function.store, outbox_rows.HandledEvent) == 0


def test_a_star_matches_every_type_with_the_prefix(function: endpoint.Function) -> None:
    assert function.deliver(events.Event("dev.tekton.event.taskrun.running.v1", "/s", "1", None, endpoint.NOON, {})).status_code == 204
    assert function.effects() == 1


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (errors.TemporaryError("later"), 503),
        (errors.PermanentError("never"), 400),
        (errors.NotFoundError("gone"), 400),
        (errors.ConflictError("taken"), 400),
        (errors.InvalidError("wrong"), 400),
        (errors.UnauthenticatedError("who"), 400),
        (errors.TooLargeError("big"), 413),
    ],
)
def test_an_error_has_a_status_for_brokers_and_no_effect(function: endpoint.Function, trouble: errors.FusemlError, status: int) -> None:
    function.trouble = trouble
    answer = function.deliver()
    assert (answer.status_code, answer.text, answer.content_type) == (status, trouble.message + "\n", "text/plain; charset=utf-8")
    assert (
        function.effects(),
        endpoint.count(function.store, outbox_rows.HandledEvent),
        endpoint.count(function.store, outbox_rows.Outbox),
    ) == (
        0,
        0,
        0,
    )
    assert function.afters == []
    function.trouble = None
    assert function.deliver().status_code == 204
    assert function.effects() == 1


def test_an_unexpected_error_is_retried_and_only_the_log_has_the_cause(
    function: endpoint.Function, caplog: pytest.LogCaptureFixture
) -> None:
    function.trouble = RuntimeError("canary: the cause")
    answer = function.deliver()
    assert (answer.status_code, answer.content_type) == (500, "text/plain; charset=utf-8")
    assert answer.text == "function failed on this event; its log has the cause\n"
    assert "canary: the cause" in caplog.text
    assert endpoint.REGISTERED.id in caplog.text
    assert function.effects() == 0


def test_a_fuseml_event_with_wrong_data_never_reaches_the_handler(function: endpoint.Function) -> None:
    answer = function.deliver(events.Event(endpoint.REGISTERED.type, "/s", "1", None, endpoint.NOON, {"project": "demo"}))
    assert answer.status_code == 400
    assert answer.text == "the data of org.fuseml.codeset.registered.v1 is not valid: codeset: is required (and 1 more)\n"
    assert (function.effects(), function.afters) == (0, [])
