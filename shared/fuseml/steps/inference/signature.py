"""Inputs and outputs of a model, from MLflow's signature."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from fuseml.steps.inference import dates, tensors

# MLflow's column types. All others travel as text, in BYTES; the content type states the form of the text.
_DATATYPES = {"boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}
_CONTENT_TYPES = {"string": "str", "binary": "base64", "datetime": "datetime"}
_NESTED = "json"
_EXAMPLES: dict[str, object] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 0.5,
    "double": 0.5,
    "string": "text",
    "binary": "aGVsbG8=",
    "datetime": dates.EXAMPLE,
    "any": {"any": "value"},
}
_LARGEST_EXAMPLE = 12  # elements


@dataclass(frozen=True)
class Field:
    """A named input or output of a model.

    `dims` has -1 for any size. A column has MLflow's description of its `type` and the `label` that the model knows it by; a tensor has an
    element type `dtype` of numpy.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    label: object = None
    type: Mapping[str, object] | None = None
    dtype: str = ""
    required: bool = True

    @property
    def column(self) -> str:
        """MLflow's name of the column's type, such as `long` or `array`; empty for a tensor."""
        return str(self.type["type"]) if self.type is not None else ""

    @property
    def content_type(self) -> str:
        """The form of values in BYTES, unless a tensor states another one; empty for other datatypes."""
        if self.datatype != "BYTES":
            return ""
        if self.type is None:
            kind = numpy.dtype(self.dtype or "object").kind
            return {"S": "base64", "M": "datetime"}.get(kind, "str")
        return _CONTENT_TYPES.get(self.column, _NESTED)

    def metadata(self) -> dict[str, object]:
        """The field in a model metadata response. Its parameters are left out if name, datatype and shape describe all of it."""
        described: dict[str, object] = {"name": self.name, "datatype": self.datatype, "shape": list(self.dims)}
        parameters: dict[str, object] = {"content_type": self.content_type} if self.content_type else {}
        if self.type is not None and self.content_type == _NESTED:
            parameters["mlflow_type"] = type_name(self.type)
        if not self.required:
            parameters["required"] = False
        return {**described, "parameters": parameters} if parameters else described

    def takes(self) -> str:
        """The type and an example, for messages: `the model takes double as FP64, for example {...}`."""
        named = f"{type_name(self.type)} as " if self.type is not None else f"{self.dtype} as " if self.dtype else ""
        takes = f"the model takes {named}{self.datatype}"
        dims = [1 if size < 0 else size for size in self.dims]
        if math.prod(dims) > _LARGEST_EXAMPLE:
            return f"{takes} of shape {list(self.dims)}"
        value = example(self.type) if self.type is not None else _tensor_example(self)
        if self.content_type == _NESTED:
            value = json.dumps(value)
        tensor = {"name": self.name, "datatype": self.datatype, "shape": dims, "data": [value] * math.prod(dims)}
        return f"{takes}, for example {json.dumps(tensor)}"


def fields(schema: Sequence[Mapping[str, object]] | None, unnamed: str) -> list[Field]:
    """The fields of one side of a signature, in MLflow's form (`Schema.to_dict()`); `unnamed` is the name of a field without one.

    A column without a name has its position as label.
    """
    named = []
    for index, item in enumerate(schema or ()):
        label = item.get("name")
        name = (unnamed if index == 0 else f"{unnamed}-{index}") if label is None else str(label)
        spec = item.get("tensor-spec")
        if isinstance(spec, Mapping):
            dtype = numpy.dtype(str(spec["dtype"]))
            named.append(Field(name, tensors.datatype(dtype), tuple(spec["shape"]), label, dtype=dtype.name))
        else:
            datatype = _DATATYPES.get(str(item["type"]), "BYTES")
            required = item.get("required") is not False and item.get("optional") is not True  # the latter in the oldest MLflow 2
            named.append(Field(name, datatype, (-1,), index if label is None else label, item, "", required))
    return named


def type_name(described: Mapping[str, object]) -> str:
    """A column type as text: `long`, `array(long)`, `map(string)`, `object(age: long, city: string?)`; `?` marks an optional property."""
    kind, items, values = described["type"], described.get("items"), described.get("values")
    properties = described.get("properties")
    if kind == "array" and isinstance(items, Mapping):
        return f"array({type_name(items)})"
    if kind == "map" and isinstance(values, Mapping):
        return f"map({type_name(values)})"
    if kind == "object" and isinstance(properties, Mapping):
        parts = [f"{name}: {type_name(one)}{'' if one.get('required') is not False else '?'}" for name, one in properties.items()]
        return f"object({', '.join(parts)})"
    return str(kind)


def example(described: Mapping[str, object]) -> object:
    """A JSON value of a column type."""
    kind, items, values = described["type"], described.get("items"), described.get("values")
    properties = described.get("properties")
    if kind == "array" and isinstance(items, Mapping):
        return [example(items)]
    if kind == "map" and isinstance(values, Mapping):
        return {"key": example(values)}
    if kind == "object" and isinstance(properties, Mapping):
        return {name: example(one) for name, one in properties.items()}
    return [0.5] if kind == "sparkml_vector" else _EXAMPLES[str(kind)]


def _tensor_example(field: Field) -> object:
    text = {"str": "text", "base64": "aGVsbG8=", "datetime": dates.EXAMPLE}
    return text[field.content_type] if field.content_type else True if field.datatype == "BOOL" else 0.5 if "F" in field.datatype else 1
