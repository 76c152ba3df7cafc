"""Events as HTTP messages: the HTTP binding of the CloudEvents SDK, its faults corrected (infra/platform-facts.md 4.1), and the limits of events.

An event has data that are a JSON object, or none. Its attributes are text.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping

from cloudevents import abstract, conversion

from fuseml.domain import errors, events
from fuseml.domain.documents import strict_json
from fuseml.runtime import clock

_REQUIRED = ("specversion", "type", "source", "id")
_STANDARD = frozenset({*_REQUIRED, "subject", "time", "datacontenttype", "dataschema"})
# The SDK takes attributes of these names for fields of its own.
_FIELDS = ("data", "extensions")
# CloudEvents HTTP binding 3.1.3.2: header values are percent-encoded.
_SAFE = "!#$&'()*+,/:;=?@[]^_`{|}~-.<>\\"


class _Message(abstract.CloudEvent):
    """The attributes and the data of a message, as they are: the SDK's own class invents an id and a time."""

    def __init__(self, attributes: Mapping[str, str], data: object) -> None:
        self._attributes, self._data = dict(attributes), data

    @classmethod
    def create(cls, attributes: Mapping[str, str], data: object) -> _Message:
        return cls(attributes, data)

    def _get_attributes(self) -> dict[str, str]:
        return self._attributes

    def get_data(self) -> object:
        return self._data


def decode(headers: Mapping[str, str], body: bytes) -> events.Event:
    """An event from an HTTP message in binary or structured mode. Raises InvalidError."""
    names = {name.lower(): value for name, value in headers.items()}
    content_type = names.get("content-type", "")
    if content_type.startswith("application/cloudevents-batch"):
        raise errors.InvalidError("batches of CloudEvents are not accepted; send one event a request")
    message = _structured(body) if content_type.startswith("application/cloudevents") else _binary(names, content_type, body)
    attributes, data = message.get_attributes(), message.get_data()
    return events.Event(
        type=attributes["type"],
        source=attributes["source"],
        id=attributes["id"],
        subject=attributes.get("subject"),
        time=attributes.get("time") or clock.now(),
        data=data if isinstance(data, dict) else {},
        extensions={name: value for name, value in attributes.items() if name not in _STANDARD},
    )


def _structured(body: bytes) -> _Message:
    # The SDK gets the envelope: from the body it would parse the data three times, NaN included.
    envelope = _json(body, "the event")
    if not isinstance(envelope, dict):
        raise errors.InvalidError("a structured CloudEvent must be a JSON object")
    data = envelope.pop("data", None)
    if "data_base64" in envelope:
        raise errors.InvalidError("the event's data must be JSON, not base64")
    attributes = {name: _attribute(name, value) for name, value in envelope.items() if value is not None}
    _check(attributes, data, attributes.get("datacontenttype", ""))
    return conversion.from_dict(_Message, {**attributes, "data": data})


def _binary(names: Mapping[str, str], content_type: str, body: bytes) -> _Message:
    # The SDK passes on invalid JSON as bytes.
    data = _json(body, "the event's data") if body.strip() else None
    given = {name[3:]: value for name, value in names.items() if name.startswith("ce-")}
    _check(given, data, content_type)
    headers = {f"ce-{name}": value for name, value in given.items() if name not in _FIELDS}
    message = conversion.from_http(_Message, headers, body, data_unmarshaller=lambda _: data)
    attributes = {**message.get_attributes(), **{name: given[name] for name in _FIELDS if name in given}}
    # The SDK leaves percent-encoded attributes as they are.
    return _Message({name: urllib.parse.unquote(value) for name, value in attributes.items()}, message.get_data())


def _check(attributes: Mapping[str, str], data: object, data_type: str) -> None:
    """Raises InvalidError for a message that is no event of version 1.0 with a JSON object."""
    if data is not None and not _is_json(data_type):
        raise errors.InvalidError(f"the event's data must be application/json, not {data_type}")
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise errors.InvalidError(f"this is not a CloudEvent: it has no {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise errors.InvalidError(f"CloudEvents {attributes['specversion']} is not understood; send version 1.0")
    if data is not None and not isinstance(data, dict):
        raise errors.InvalidError("the event's data must be a JSON object")


def _attribute(name: str, value: object) -> str:
    # CloudEvents JSON format 2.2: attributes are text, numbers and booleans; the text form of a boolean is lower case.
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise errors.InvalidError(f"the event's attribute {name!r} must be text, a whole number or a boolean")
    return str(value)


def _is_json(data_type: str) -> bool:
    media = data_type.partition(";")[0].strip().lower()
    return media in ("", "application/json", "text/json") or media.endswith("+json")


def _json(body: bytes, part: str) -> object:
    try:
        return strict_json.parse(body)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidError(f"{part} is not valid JSON: {error}") from error


def encode(event: events.Event) -> tuple[dict[str, str], bytes]:
    """Headers and body of the event in binary mode."""
    attributes = {"specversion": "1.0", "type": event.type, "source": event.source, "id": event.id, "time": event.time, **event.extensions}
    if event.subject:
        attributes["subject"] = event.subject
    quoted = {name: urllib.parse.quote(value, safe=_SAFE) for name, value in attributes.items()}
    # Without a type of the data, the SDK writes no content type.
    known = {**{name: value for name, value in quoted.items() if name not in _FIELDS}, "datacontenttype": "application/json"}
    headers, body = conversion.to_binary(_Message(known, event.data), data_marshaller=_compact)
    return {**headers, **{f"ce-{name}": quoted[name] for name in _FIELDS if name in quoted}}, body


def _compact(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))
