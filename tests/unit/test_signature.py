"""The signed form of an event: equal after every re-encoding that brokers make, different after any other change."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, events, signature, times
from fuseml.runtime import clock, cloudevents, secrets, signing
from tests.event_keys import FORGER, SIGNER

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_moments = st.datetimes(min_value=datetime.datetime(1970, 1, 1), timezones=st.just(datetime.UTC))
_event = st.builds(
    events.Event,
    type=_text.map(lambda text: events.PREFIX + text),
    source=_text,
    id=_text,
    subject=st.none() | _text,
    time=_moments.map(times.render),
    data=st.dictionaries(_text, _json, max_size=4),
    extensions=st.just({}) | st.builds(events.caused_by, _text, _text),
)


def structured(event: events.Event) -> tuple[dict[str, str], bytes]:
    """Structured mode with sorted keys and unescaped text, unlike binary mode here."""
    attributes = {"specversion": "1.0", "type": event.type, "source": event.source, "id": event.id, "time": event.time, **event.extensions}
    if event.subject:
        attributes["subject"] = event.subject
    document = {**attributes, "datacontenttype": "application/json", "data": event.data}
    return {"Content-Type": "application/cloudevents+json"}, json.dumps(document, sort_keys=True, ensure_ascii=False, indent=2).encode()


def through_go(event: events.Event) -> events.Event:
    """Go's SDK writes a time again without trailing zeros."""
    moment, _, fraction = event.time.removesuffix("Z").partition(".")
    return dataclasses.replace(event, time=f"{moment}.{fraction}".rstrip("0").rstrip(".") + "Z" if fraction.strip("0") else f"{moment}Z")


@given(_event, st.lists(st.sampled_from([structured, cloudevents.encode]), max_size=4), st.booleans())
def test_a_signature_survives_binary_and_structured_mode_in_any_number(event: events.Event, modes: list[Any], go: bool) -> None:
    signed = SIGNER.sign(event)
    for mode in modes:
        signed = cloudevents.decode(*mode(through_go(signed) if go else signed))
    assert SIGNER.check(signed)


@given(_event, _event, st.sampled_from(["type", "source", "id", "subject", "time", "data"]))
def test_a_change_of_any_signed_attribute_is_refused(event: events.Event, other: events.Event, name: str) -> None:
    signed = SIGNER.sign(event)
    changed = dataclasses.replace(signed, **{name: getattr(other, name)})
    same = getattr(event, name) == getattr(other, name)
    if same and json.dumps(event.data, sort_keys=True) == json.dumps(changed.data, sort_keys=True):
        assert SIGNER.check(changed)
    elif not same:
        with pytest.raises(errors.UnauthenticatedError, match="belongs to another content"):
            SIGNER.check(changed)


@given(_event, _event)
def test_different_events_have_different_signed_forms(one: events.Event, other: events.Event) -> None:
    parts = [(event.type, event.source, event.id, event.subject, event.time, event.cause, event.data) for event in (one, other)]
    if parts[0] != parts[1]:
        assert signature.content(one) != signature.content(other)


BASE = events.Event("org.fuseml.a.b.v1", "/s", "1", "x", "2026-11-21T12:00:00.120000Z", {"a": 1, "b": [True, None, "ü"]})


@pytest.mark.parametrize(
    "change",
    [
        {"type": "org.fuseml.a.b.v2"},
        {"source": "/s/"},
        {"id": "2"},
        {"id": "1/"},
        {"subject": "y"},
        {"subject": None},
        {"source": "/s1", "id": ""},
        {"source": "", "id": "/s1"},
        {"time": "2026-11-21T12:00:00.120001Z"},
        {"time": "2026-11-21T12:00:00.1200001Z"},
        {"time": "2026-11-21T12:00:00.120000+01:00"},
        {"time": "noon"},
        {"data": {}},
        {"data": {"a": "1", "b": [True, None, "ü"]}},
        {"data": {"a": 1.5, "b": [True, None, "ü"]}},
        {"data": {"a": True, "b": [True, None, "ü"]}},
        {"data": {"a": 1, "b": [None, True, "ü"]}},
        {"data": {"a": 1, "b": [1, None, "ü"]}},
        {"data": {"a": 1, "b": [True, None, "u\u0308"]}},
        {"data": {"a": 1, "b": [True, None, "ü"], "c": None}},
        {"extensions": {"causesource": "/x", "causeid": "9"}},
    ],
)
def test_the_smallest_change_is_refused(change: dict[str, Any]) -> None:
    signed = SIGNER.sign(BASE)
    extensions = {**signed.extensions, **change.get("extensions", {})}
    with pytest.raises(errors.UnauthenticatedError, match="belongs to another content"):
        SIGNER.check(dataclasses.replace(signed, **{**change, "extensions": extensions}))


@pytest.mark.parametrize(
    "change",
    [
        {"time": "2026-11-21T12:00:00.12Z"},
        {"time": "2026-11-21T12:00:00.120000000Z"},
        {"time": "2026-11-21T13:00:00.12+01:00"},
        {"time": "2026-11-21t12:00:00.12z"},
        {"data": {"b": [True, None, "ü"], "a": 1}},
        {"data": {"b": [True, None, "ü"], "a": 1.0}},
        {"extensions": {"traceparent": "00-x", "tracestate": "y", "knativearrivaltime": "now", "partitionkey": "3", "causeid": "alone"}},
    ],
)
def test_a_rewriting_of_the_same_content_is_accepted(change: dict[str, Any]) -> None:
    signed = SIGNER.sign(BASE)
    extensions = {**signed.extensions, **change.get("extensions", {})}
    assert SIGNER.check(dataclasses.replace(signed, **{**change, "extensions": extensions}))


@pytest.mark.parametrize("lost", ["causesource", "causeid"])
def test_a_cause_cannot_be_taken_away_or_exchanged(lost: str) -> None:
    signed = SIGNER.sign(dataclasses.replace(BASE, extensions=events.caused_by("/x", "9")))
    assert SIGNER.check(signed)
    without = {name: value for name, value in signed.extensions.items() if name != lost}
    for extensions in (without, {**signed.extensions, lost: "other"}):
        with pytest.raises(errors.UnauthenticatedError):
            SIGNER.check(dataclasses.replace(signed, extensions=extensions))


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("", "it has no signature"),
        ("v2.x.y", "another version"),
        ("v1", "another key"),
        ("v1.00000000.AAAA", "another key"),
        ("\u00fc", "another version"),
        (None, "another content"),
    ],
)
def test_a_refusal_names_its_cause(value: str | None, cause: str) -> None:
    own = signature.of(SIGNER.sign(BASE))
    with pytest.raises(errors.UnauthenticatedError, match=f"not proven to be FuseML's: .*{cause}"):
        SIGNER.check(signature.attach(BASE, own[:-4] + "\u00fcAAA" if value is None else value))
    assert own.partition(".")[2] not in str(SIGNER.__dict__)


def test_the_signature_of_another_key_is_refused() -> None:
    with pytest.raises(errors.UnauthenticatedError, match="another key"):
        SIGNER.check(FORGER.sign(BASE))
    # The name of a key is no secret.
    name = signature.of(SIGNER.sign(BASE)).split(".")[1]
    mac = signature.of(FORGER.sign(BASE)).split(".")[2]
    with pytest.raises(errors.UnauthenticatedError, match="another content"):
        SIGNER.check(signature.attach(BASE, f"v1.{name}.{mac}"))


def test_events_of_other_software_need_no_signature_and_can_have_one() -> None:
    tick = events.Event(events.TICK, "/ping", "1", None, "2026-11-21T12:00:00Z", {})
    assert (SIGNER.check(tick), SIGNER.check(FORGER.sign(tick)), SIGNER.check(SIGNER.sign(tick))) == (False, False, True)


def test_data_that_are_nested_without_end_are_refused() -> None:
    data: dict[str, Any] = {}
    for _ in range(5000):
        data = {"a": data}
    with pytest.raises(errors.UnauthenticatedError, match="nested too deeply"):
        SIGNER.check(signature.attach(dataclasses.replace(BASE, data=data), signature.of(SIGNER.sign(BASE))))


# Keys


def test_two_keys_are_valid_and_the_older_one_signs() -> None:
    ring = secrets.Keyring([secrets.new_key()])
    signer = signing.Signer(ring.event_keys)
    first = signer.sign(BASE)
    ring.adopt(secrets.new_key())
    # A process that has not learned of the rotation yet accepts what one that has signs.
    assert signer.sign(BASE) == first
    assert signer.check(first)
    ring.adopt(secrets.new_key())
    second = signer.sign(BASE)
    assert second != first
    assert signer.check(second)
    with pytest.raises(errors.UnauthenticatedError, match="retired"):
        signer.check(first)


def test_the_order_of_a_keyring_gives_the_keys_of_events_and_no_other_secret() -> None:
    keys = [secrets.new_key() for _ in range(3)]
    ring = secrets.Keyring(keys)
    assert ring.event_keys() == secrets.Keyring(keys[:2]).event_keys()
    grown = secrets.Keyring(keys[1:])
    grown.adopt(keys[0])
    assert grown.event_keys() == ring.event_keys()
    for key in ring.event_keys():
        with pytest.raises(errors.PermanentError):
            secrets.Keyring([key])
        assert key not in (ring.derive("x"), *keys)


@pytest.mark.parametrize("keys", [[], ["short"], ["g" * 64], ["A" * 64]])
def test_keys_of_another_format_are_refused(keys: list[str]) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_EVENT_KEYS"):
        signing.Signer(lambda: keys)


# The upgrade from a version that did not sign


def test_unsigned_events_are_accepted_for_a_short_time_only() -> None:
    keys = secrets.Keyring([secrets.new_key()]).event_keys()
    during = signing.Signer(lambda: keys, unsigned_until=clock.ahead(600))
    assert during.check(BASE)
    with pytest.raises(errors.UnauthenticatedError):
        during.check(FORGER.sign(BASE))
    with pytest.raises(errors.UnauthenticatedError):
        signing.Signer(lambda: keys, unsigned_until=clock.ago(1)).check(BASE)


@pytest.mark.parametrize("text", ["tomorrow", "2999-01-01T00:00:00Z", "2026-11-21T12:00:00"])
def test_a_longer_time_or_none_is_refused(text: str) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_UNSIGNED_UNTIL"):
        signing.Signer(lambda: ["0" * 64], unsigned_until=text)
