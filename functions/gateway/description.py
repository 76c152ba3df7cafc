"""The OpenAPI document of all functions, merged from theirs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import Any

from functions.gateway import forward
from fuseml.runtime import catalog

_REF = "#/components/schemas/"


def fetch(forwarder: forward.Forwarder) -> list[tuple[str, dict[str, Any]]]:
    """The documents of the functions with paths, in the catalogue's order; fetched in parallel, because some start from zero."""
    functions = [function for function in catalog.FUNCTIONS if function.paths]
    with futures.ThreadPoolExecutor(len(functions)) as pool:
        texts = pool.map(lambda function: forwarder.get(function, "/openapi.json"), functions)
        return [(function.name, json.loads(text)) for function, text in zip(functions, texts, strict=True)]


def merge(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One document. A schema whose name another function uses for another schema gets its function's name as a prefix."""
    whole: dict[str, Any] = {}
    for function, document in documents:
        if not whole:
            whole = {**document, "tags": [], "paths": {}, "components": {**document["components"], "schemas": {}}}
        merged_schemas = whole["components"]["schemas"]
        schemas = document["components"]["schemas"]
        other = {name: f"{function}_{name}" for name, schema in schemas.items() if merged_schemas.get(name, schema) != schema}
        renamed = _renamed(document, {_REF + name: _REF + new for name, new in other.items()})
        merged_schemas |= {other.get(name, name): schema for name, schema in renamed["components"]["schemas"].items()}
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
