"""The OpenAPI document of all functions, merged from theirs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import Any

from functions.gateway import forward
from fuseml.runtime import catalog

_NAMED = ("schemas", "examples")
"""The components that each function names on its own."""


def fetch(forwarder: forward.Forwarder) -> list[tuple[str, dict[str, Any]]]:
    """The documents of the functions with paths, in the catalogue's order; fetched in parallel, because some start from zero."""
    functions = [function for function in catalog.FUNCTIONS if function.paths]
    with futures.ThreadPoolExecutor(len(functions)) as pool:
        texts = pool.map(lambda function: forwarder.get(function, "/openapi.json"), functions)
        return [(function.name, json.loads(text)) for function, text in zip(functions, texts, strict=True)]


def merge(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One document. A schema or example whose name another function uses for another one gets its function's name as a prefix."""
    whole: dict[str, Any] = {}
    for function, document in documents:
        if not whole:
            whole = {**document, "tags": [], "paths": {}, "components": {**document["components"], **{kind: {} for kind in _NAMED}}}
        components, merged = document["components"], whole["components"]
        other = {
            (kind, name): f"{function}_{name}"
            for kind in _NAMED
            for name, value in components[kind].items()
            if merged[kind].get(name, value) != value
        }
        renamed = _renamed(document, {f"#/components/{kind}/{name}": f"#/components/{kind}/{new}" for (kind, name), new in other.items()})
        for kind in _NAMED:
            merged[kind] |= {other.get((kind, name), name): value for name, value in renamed["components"][kind].items()}
        whole["tags"] += renamed["tags"]
        for path, operations in renamed["paths"].items():
            whole["paths"].setdefault(path, {}).update(operations)
    return whole


def _renamed(value: Any, references: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {key: references.get(item, item) if key == "$ref" else _renamed(item, references) for key, item in value.items()}
        case list():
            return [_renamed(item, references) for item in value]
    return value
