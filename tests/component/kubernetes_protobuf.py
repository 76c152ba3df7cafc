"""Reads the binary form in which `helm` sends Secrets and `kubectl` questions about rights to the Kubernetes API (k8s.io/apimachinery/pkg/runtime, k8s.io/api/core/v1: generated.proto)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"


def read(content: bytes) -> dict[str, Any] | None:
    """The Secret or access review of a request's body; None for another object, such as the options of a deletion."""
    envelope = dict(_fields(content.removeprefix(MAGIC)))
    kind = dict(_fields(envelope[1])).get(2, b"").decode()
    if kind == "SelfSubjectAccessReview":
        attributes = dict(_fields(dict(_fields(dict(_fields(envelope[2]))[2]))[1]))
        named = {"verb": attributes[2].decode(), "resource": attributes[5].decode()}
        return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {}, "spec": {"resourceAttributes": named}}
    return _secret(envelope[2]) if kind == "Secret" else None


def _secret(content: bytes) -> dict[str, Any]:
    item: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {}}, "data": {}}
    for number, value in _fields(content):
        if number == 1:
            for key, part in _fields(value):
                if key in (1, 3):
                    item["metadata"]["name" if key == 1 else "namespace"] = part.decode()
                elif key == 11:
                    entry = dict(_fields(part))
                    item["metadata"]["labels"][entry[1].decode()] = entry.get(2, b"").decode()
        elif number == 2:
            entry = dict(_fields(value))
            item["data"][entry[1].decode()] = base64.b64encode(entry.get(2, b"")).decode()
        elif number == 3:
            item["type"] = value.decode()
    return item


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that hold bytes, by number."""
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(content):
        key = number()
        if key & 7 == 2:
            length = number()
            yield key >> 3, content[position : position + length]
            position += length
        else:
            number()
