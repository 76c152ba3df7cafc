"""Message classes of open_inference.proto, made when the model server starts.

Generated code would tie every codeset to one version of protobuf. The classes are in a pool of their own: a model may import other software
with messages of the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf import descriptor_pb2

PROTO = Path(__file__).with_name("open_inference.proto")
_COMMENT = re.compile(r"//[^\n]*")
_WORD = re.compile(r'"[^"]*"|[\w.]+|[^\s\w]')


def file_descriptor(text: str) -> descriptor_pb2.FileDescriptorProto:
    """The messages and services of a text in the part of proto3 that open_inference.proto uses."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name=PROTO.name, syntax="proto3")
    words = iter(_WORD.findall(_COMMENT.sub("", text)))
    for word in words:
        if word == "message":
            _message(file.message_type.add(), words)
        elif word == "service":
            _service(file.service.add(), words)
        elif word == "package":
            file.package = next(words)
    for service in file.service:
        for method in service.method:
            method.input_type, method.output_type = (f".{file.package}.{name}" for name in (method.input_type, method.output_type))
    _qualify(file.message_type, f".{file.package}", {})
    return file


def _message(message: Any, words: Iterator[str]) -> None:
    message.name = next(words)
    _expect(words, "{")
    oneof = ""
    for word in words:
        if word == "}":
            if not oneof:
                return
            oneof = ""
        elif word == "message":
            _message(message.nested_type.add(), words)
        elif word == "oneof":
            oneof = next(words)
            message.oneof_decl.add(name=oneof)
            _expect(words, "{")
        else:
            field = _field(message, word, words)
            if oneof:
                field.oneof_index = len(message.oneof_decl) - 1


def _field(message: Any, word: str, words: Iterator[str]) -> Any:
    field = message.field.add()
    field.label = field.LABEL_OPTIONAL
    if word in ("repeated", "map"):
        field.label = field.LABEL_REPEATED
    if word == "map":
        _, key, _, value, _ = (next(words) for _ in range(5))
        field.name = next(words)
        entry = message.nested_type.add(name="".join(part.capitalize() for part in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
            _typed(entry.field.add(name=name, number=number, label=field.LABEL_OPTIONAL), kind)
        _typed(field, entry.name)
    else:
        _typed(field, next(words) if word == "repeated" else word)
        field.name = next(words)
    _expect(words, "=")
    field.number = int(next(words))
    _expect(words, ";")
    return field


def _typed(field: Any, kind: str) -> None:
    number = getattr(field, f"TYPE_{kind.upper()}", None)
    if number is None:
        field.type_name = kind
        number = field.TYPE_MESSAGE
    field.type = number


def _service(service: Any, words: Iterator[str]) -> None:
    service.name = next(words)
    _expect(words, "{")
    for word in words:
        if word == "}":
            return
        # rpc Name ( Request ) returns ( Response ) { }
        name, _, request, _, _, _, response, _, _, _ = (next(words) for _ in range(10))
        service.method.add(name=name, input_type=request, output_type=response)


def _qualify(messages: Any, scope: str, known: dict[str, str]) -> None:
    """Full names of messages as types of fields, the innermost first."""
    known = {**known, **{message.name: f"{scope}.{message.name}" for message in messages}}
    for message in messages:
        inner = {**known, **{nested.name: f"{scope}.{message.name}.{nested.name}" for nested in message.nested_type}}
        for field in message.field:
            if field.type_name:
                field.type_name = inner[field.type_name]
        _qualify(message.nested_type, f"{scope}.{message.name}", known)


def _expect(words: Iterator[str], word: str) -> None:
    found = next(words)
    if found != word:
        raise ValueError(f"{PROTO.name}: expected {word!r}, found {found!r}")


def classes() -> dict[str, Any]:
    """The message classes by name, such as `ModelInferRequest`. Raises ImportError without protobuf."""
    from google.protobuf import descriptor_pool, message_factory

    file = file_descriptor(PROTO.read_text(encoding="utf-8"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())

    def one(name: str) -> Any:
        descriptor = pool.FindMessageTypeByName(f"{file.package}.{name}")
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf 3

    return {message.name: one(message.name) for message in file.message_type}
