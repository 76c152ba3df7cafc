"""The signed content of an event in a form that brokers do not change, and the attribute that carries the signature.

A broker may pass an event on in another mode (binary, structured), write its time in another width and its data in another order of keys
or with other escapes. The form is equal for all of these, and different for any other change of type, source, id, subject, time, cause or
data. It leaves out the trace context, which brokers continue, and all other extension attributes, which consumers do not read.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re

from fuseml.domain import events

ATTRIBUTE = "fusemlsignature"
"""The extension attribute with the signature, because brokers drop other headers (infra/platform-facts.md 3.4)."""

UNPROVEN = "unproven:"
"""The beginning of the source under which the ledger has events of FuseML's types without a valid signature."""

_LABEL = "fuseml-event-1"
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,30}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def is_required(event: events.Event) -> bool:
    """Whether events of this type come from FuseML only, and so carry a signature."""
    return event.type.startswith(events.PREFIX)


def of(event: events.Event) -> str:
    """The signature that the event carries; empty without one."""
    return event.extensions.get(ATTRIBUTE, "")


def attach(event: events.Event, signature: str) -> events.Event:
    """The event with this signature in place of any other."""
    return dataclasses.replace(event, extensions={**event.extensions, ATTRIBUTE: signature})


def detach(event: events.Event) -> events.Event:
    """The event without a signature."""
    if ATTRIBUTE not in event.extensions:
        return event
    return dataclasses.replace(event, extensions={name: value for name, value in event.extensions.items() if name != ATTRIBUTE})


def unproven(event: events.Event) -> events.Event:
    """An event without a valid signature, under a source of its own: it must not stand for the genuine one of the same source and id."""
    return dataclasses.replace(detach(event), source=f"{UNPROVEN}{event.source}")


def content(event: events.Event) -> bytes:
    """The bytes to sign: each part behind its length, so that no two events have the same ones.

    The data are JSON (`application/json`); `cloudevents.decode` takes no other.
    """
    cause = event.cause or ("", "")
    parts = (_LABEL, event.type, event.source, event.id, event.subject or "", _time(event.time), *cause, _json(event.data))
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in encoded)


def _time(text: str) -> str:
    """The moment in UTC without trailing zeros; text that is no time stays as it is."""
    match = _TIME.fullmatch(text)
    if match is None:
        return text
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{clock}{zone.upper()}").astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction or '').rstrip('0')}Z"


def _json(data: object) -> str:
    return json.dumps(_plain(data), sort_keys=True, separators=(",", ":"))


def _plain(value: object) -> object:
    """The value with equal numbers written alike: 1.0 and 1 are one number in JSON."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
