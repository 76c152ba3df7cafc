"""The examples of the OpenAPI document: composed of the values in `examples.yaml` along the schemas of the models.

Imported with the first request for the document.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

_REF = "#/components/schemas/"
_DEPTH = 12
"""Of nested models; none of the documented ones is that deep without a cycle."""


class NoExampleError(LookupError):
    """A field has no value in `examples.yaml`; the message is `Model.field`."""


class Examples:
    """Examples along `definitions`, the schemas of the document by name."""

    def __init__(self, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        self._definitions = definitions
        text = pathlib.Path(__file__).with_suffix(".yaml").read_text()
        table = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
        self._fields, self._models, self._requests = table["fields"], table["models"], table["requests"]
        self._paths, self._answers, self._errors = table["paths"], table["answers"], table["errors"]

    def request(self, operation: str) -> dict[str, Any]:
        """The body of the operation, or its query if it takes none; empty where nothing needs to be given."""
        return dict(self._requests.get(operation, {}))

    def path(self, path: str) -> dict[str, str]:
        """The values of the variables of a path, such as `/runs/{name}`: those of its longest part in the table count."""
        parts = path.strip("/").split("/")
        found: dict[str, str] = {}
        for length in range(1, len(parts) + 1):
            found |= self._paths.get("/".join(parts[:length]), {})
        return found

    def answer(self, operation: str, schema: Mapping[str, Any]) -> Any:
        """The body of an answer of this schema. Raises NoExampleError."""
        return self._answers[operation] if operation in self._answers else self.value(schema, "", "", 0)

    def error(self, status: int) -> dict[str, Any]:
        """The body of an error."""
        plain = {"id": self._fields["ErrorBody.id"], "temporary": False, "timeout": False, "fault": False, "details": {}}
        return {**plain, **self._errors[status]}

    def value(self, schema: Mapping[str, Any], model: str, field: str, depth: int) -> Any:
        """The value of a field of a model, which this schema describes. Raises NoExampleError."""
        for key in (f"{model}.{field}", field):
            if key in self._fields and field and _fits(self._fields[key], schema):
                return self._fields[key]
        if "$ref" in schema:
            return self._model(schema["$ref"].removeprefix(_REF), depth + 1)
        if schema.get("default"):
            return schema["default"]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        alternatives = schema.get("anyOf") or schema.get("oneOf") or ()
        if any(item.get("type") == "null" for item in alternatives) and not _has_model(alternatives):
            return None
        if alternatives:
            return self.value(alternatives[0], model, field, depth) if depth < _DEPTH else None
        return self._plain(schema, model, field, depth)

    def _plain(self, schema: Mapping[str, Any], model: str, field: str, depth: int) -> Any:
        kind = schema.get("type")
        if kind == "array":
            return [self.value(schema.get("items", {}), model, "", depth)] if depth < _DEPTH and _has_model([schema["items"]]) else []
        if kind == "object":
            return {}
        if kind == "boolean":
            return bool(schema.get("default"))
        if kind in ("integer", "number"):
            return schema.get("default", schema.get("minimum", 0))
        if "default" in schema:
            return schema["default"]
        raise NoExampleError(f"{model}.{field}")

    def _model(self, name: str, depth: int) -> Any:
        short = name.rpartition("__")[2]
        if short in self._models:
            return self._models[short]
        schema = self._definitions[name]
        if "properties" not in schema:
            return self.value({key: value for key, value in schema.items() if key != "default"}, short, "", depth)
        return {field: self.value(info, short, field, depth) for field, info in schema["properties"].items()}


def _has_model(schemas: Any) -> bool:
    return any("$ref" in schema or _has_model(schema.get("anyOf", ())) for schema in schemas)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value of the table is of the field's type: a name means text here and a list there."""
    if "enum" in schema:
        return value in schema["enum"]
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return any(_fits(value, item) for item in alternatives)
    if "$ref" in schema:
        return isinstance(value, dict | list)
    kinds = schema.get("type", ())
    if isinstance(value, bool) and kinds not in ("boolean", ()):
        return False
    return not kinds or any(isinstance(value, _TYPES[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds))
