"""OpenAPI 3.1, generated from the routes that are served. Imported with the first request for the document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pydantic
from pydantic import json_schema

from fuseml.runtime.operations import ErrorBody, Operation

_REF = "#/components/schemas/{model}"

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
        "components": {"schemas": definitions.get("$defs", {}), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


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
            str(204 if operation.returns is None and operation.status == 200 else operation.status): _response(operation.returns, schemas),
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


def _response(returns: object, schemas: Schemas) -> dict[str, Any]:
    item = _item(returns)
    if item is None:
        return {"description": "done"}
    schema = schemas[item] if isinstance(item, type) and issubclass(item, pydantic.BaseModel) else {}
    return _content("done", {"type": "array", "items": schema} if isinstance(returns, list) else schema)


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}, "application/x-yaml": {"schema": schema}}}
