"""OpenAPI 3.1, generated from the routes that are served. Imported with the first request for the document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pydantic
from pydantic import json_schema

from fuseml.runtime.operations import ErrorBody, Operation

_REF = "#/components/schemas/{model}"

_REFUSALS = {
    400: "Invalid: the request is not valid",
    401: "Unauthenticated: the token or the signature is missing or wrong",
    403: "Forbidden: the caller may not do this",
    404: "NotFound: what the request names does not exist",
    409: "Conflict: the present state does not allow it",
    412: "Stale: the record has another revision than `If-Match`",
    413: "TooLarge: the body is too large",
    415: "UnsupportedMediaType: the body is neither JSON nor YAML",
    422: "Unresolved: a selector matches no service",
    503: "Unavailable: try again after `Retry-After` seconds",
}
"""The name of each documented error and its meaning, by status."""

Schemas = Mapping[type, dict[str, Any]]
"""References of the document to models: two models of one name are two schemas."""


class Api(Protocol):
    """A named group of operations: the API of one function."""

    name: str
    summary: str
    operations: list[Operation]


def document(apis: Sequence[Api]) -> dict[str, Any]:
    """One document for the given applications."""
    operations = [(api, operation) for api in apis for operation in api.operations]
    models: dict[type[pydantic.BaseModel], None] = {ErrorBody: None}
    for _, operation in operations:
        for candidate in (operation.body, operation.document, _item(operation.returns), _item(operation.dry_run)):
            if isinstance(candidate, type) and issubclass(candidate, pydantic.BaseModel):
                models[candidate] = None
    references, definitions = json_schema.models_json_schema([(model, "serialization") for model in models], ref_template=_REF)
    schemas: Schemas = {model: reference for (model, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for api, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(api, operation, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FuseML", "version": "1", "description": "GitOps for machine learning, serverless."},
        "tags": [{"name": api.name, "description": api.summary} for api in apis],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "responses": {name: _content(meaning, schemas[ErrorBody]) for name, meaning in map(_named, _REFUSALS)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _named(status: int) -> tuple[str, str]:
    name, _, meaning = _REFUSALS[status].partition(": ")
    return name, meaning


def _refusals(operation: Operation) -> list[int]:
    """The statuses of errors, ascending: those of every route of its kind, and its own."""
    found = {400, 403, 413, 415, 503, *operation.refusals}
    if not operation.public:
        found.add(401)
    if "<" in operation.path:
        found.add(404)
    return sorted(found)


def _item(returns: object) -> object:
    return returns[0] if isinstance(returns, list) else returns


def _operation(api: Api, operation: Operation, path: str, schemas: Schemas) -> dict[str, Any]:
    summary, _, description = operation.summary.partition("\n")
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", path)
    ]
    if operation.query:
        schema = operation.query.model_json_schema(ref_template=_REF)
        parameters += [
            {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": info}
            for name, info in schema.get("properties", {}).items()
        ]
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "tags": [api.name],
        "summary": summary.strip(),
        "parameters": parameters,
        "responses": {
            **({"200": _response(operation.dry_run, schemas)} if operation.dry_run is not None else {}),
            **_success(operation, schemas),
            **{str(status): {"$ref": f"#/components/responses/{_named(status)[0]}"} for status in _refusals(operation)},
            "default": _content("an error", schemas[ErrorBody]),
        },
    }
    if description.strip():
        described["description"] = description.strip()
    body = operation.body or operation.document
    if body:
        content = {"schema": schemas[body]}
        described["requestBody"] = {"required": True, "content": {"application/json": content, "application/x-yaml": content}}
    if not operation.public:
        described["security"] = [{"token": []}]
    return described


def _success(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    if operation.text:
        return {str(operation.status): {"description": "done", "content": {operation.text: {"schema": {"type": "string"}}}}}
    empty = operation.returns is None and operation.status == 200
    return {str(204 if empty else operation.status): _response(operation.returns, schemas)}


def _response(returns: object, schemas: Schemas) -> dict[str, Any]:
    item = _item(returns)
    if item is None:
        return {"description": "done"}
    schema = schemas[item] if isinstance(item, type) and issubclass(item, pydantic.BaseModel) else {}
    return _content("done", {"type": "array", "items": schema} if isinstance(returns, list) else schema)


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}, "application/x-yaml": {"schema": schema}}}
