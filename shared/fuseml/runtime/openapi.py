"""OpenAPI 3.1, generated from the routes that are served. Imported with the first request for the document."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pydantic
from pydantic import json_schema

from fuseml.runtime.examples import Examples, NoExampleError
from fuseml.runtime.operations import ErrorBody, Operation

_REF = "#/components/schemas/{model}"
_EXAMPLES = "#/components/examples/"

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """The examples, and those of the document that several operations refer to, by the name of their schema."""

    examples: Examples
    components: dict[str, Any]

    def answer(self, operation: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """The example of an answer, or None if a field has no value."""
        reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
        try:
            example = {"value": self.examples.answer(operation, schema)}
        except NoExampleError:
            return None
        if reference is None:
            return example
        name = reference.rpartition("/")[2] + ("_list" if "items" in schema else "")
        self.components[name] = example
        return {"$ref": _EXAMPLES + name}


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
    shown = _Shown(Examples(definitions.get("$defs", {})), {})
    paths: dict[str, dict[str, Any]] = {}
    for api, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(api, operation, path, schemas, shown)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FuseML", "version": "1", "description": "GitOps for machine learning, serverless."},
        "tags": [{"name": api.name, "description": api.summary} for api in apis],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "responses": {
                name: _content(meaning, schemas[ErrorBody], {"value": shown.examples.error(status)})
                for status, (name, meaning) in zip(_REFUSALS, map(_named, _REFUSALS), strict=True)
            },
            "examples": shown.components,
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


def _operation(api: Api, operation: Operation, path: str, schemas: Schemas, shown: _Shown) -> dict[str, Any]:
    summary, _, description = operation.summary.partition("\n")
    id, body = operation.handler.__name__, operation.body or operation.document
    request = shown.examples.request(id)
    described: dict[str, Any] = {
        "operationId": id,
        "tags": [api.name],
        "summary": summary.strip(),
        "parameters": _parameters(operation, path, shown.examples.path(path), {} if body else request),
        "responses": {
            **({"200": _response(id, operation.dry_run, schemas, shown)} if operation.dry_run is not None else {}),
            **_success(operation, schemas, shown),
            **{str(status): {"$ref": f"#/components/responses/{_named(status)[0]}"} for status in _refusals(operation)},
            "default": _content("an error", schemas[ErrorBody]),
        },
    }
    if description.strip():
        described["description"] = description.strip()
    if body:
        content = {"schema": schemas[body], **({"examples": {"example": {"value": request}}} if request else {})}
        described["requestBody"] = {"required": True, "content": {"application/json": content, "application/x-yaml": content}}
    if not operation.public:
        described["security"] = [{"token": []}]
    return described


def _parameters(operation: Operation, path: str, variables: Mapping[str, object], given: Mapping[str, object]) -> list[dict[str, Any]]:
    """The parameters, with the values of the `variables` of the path and of the `given` query."""
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **_example(variables, name)}
        for name in re.findall(r"{(\w+)}", path)
    ]
    if operation.query:
        schema = operation.query.model_json_schema(ref_template=_REF)
        found += [
            {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": info, **_example(given, name)}
            for name, info in schema.get("properties", {}).items()
        ]
    return found


def _example(values: Mapping[str, object], name: str) -> dict[str, object]:
    return {"example": values[name]} if name in values else {}


def _success(operation: Operation, schemas: Schemas, shown: _Shown) -> dict[str, Any]:
    id, text = operation.handler.__name__, {"type": "string"}
    if operation.text:
        example = shown.answer(id, text)
        content = {"schema": text, **({"examples": {"example": example}} if example else {})}
        return {str(operation.status): {"description": "done", "content": {operation.text: content}}}
    empty = operation.returns is None and operation.status == 200
    return {str(204 if empty else operation.status): _response(id, operation.returns, schemas, shown)}


def _response(id: str, returns: object, schemas: Schemas, shown: _Shown) -> dict[str, Any]:
    item = _item(returns)
    if item is None:
        return {"description": "done"}
    schema = schemas[item] if isinstance(item, type) and issubclass(item, pydantic.BaseModel) else {}
    schema = {"type": "array", "items": schema} if isinstance(returns, list) else schema
    return _content("done", schema, shown.answer(id, schema))


def _content(description: str, schema: dict[str, Any], example: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"schema": schema, **({"examples": {"example": example}} if example else {})}
    return {"description": description, "content": {"application/json": content, "application/x-yaml": content}}
