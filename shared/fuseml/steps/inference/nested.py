"""Columns of arrays, objects, maps and any values: JSON values in the types that MLflow's enforcement takes.

MLflow takes no integer of Python as `integer`, no float of Python as `float`, and only numpy's dates: these become values of numpy.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence

import numpy

from fuseml.steps.inference import dates, tensors

# Lists of these types are refused by MLflow, arrays of numpy are taken.
_ARRAYS = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}
_LARGEST_FLOAT = float(numpy.finfo("float32").max)


def values(tensor: tensors.Tensor, described: Mapping[str, object], required: bool) -> list[object]:
    """One value for each row: JSON text of BYTES, or a slice of a tensor of another datatype. Raises ValueError."""
    if not tensor.array.ndim:
        raise ValueError("is a column: its shape must be [rows] or [rows, length], not []")
    if tensor.datatype == "BYTES" and tensor.array.ndim == 1 and tensor.content_type in ("", "json", "pd_json"):
        rows: Sequence[object] = [None if text is None else parsed(text) for text in tensor.array]
    else:
        rows = tensor.array.tolist()
    return [convert(row, described, required) for row in rows]


def parsed(text: str | bytes) -> object:
    """The value of JSON text. Raises ValueError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{str(text)[:40]!r} is not JSON") from None


def convert(value: object, described: Mapping[str, object], required: bool = True) -> object:
    """A JSON value as a column type. Raises ValueError."""
    kind = str(described["type"])
    if kind == "any" or (value is None and not required):
        return value
    if kind in ("array", "sparkml_vector"):
        return _array(value, described.get("items") or {"type": "double"}, required)
    if kind == "map":
        return {key: convert(item, _of(described["values"]), required) for key, item in _dictionary(value).items()}
    if kind == "object":
        return _object(_dictionary(value), _of(described["properties"]))
    return _leaf(value, kind)


def _array(value: object, items: object, required: bool) -> object:
    described = _of(items)
    if value is None and described["type"] == "any":
        return value
    if not isinstance(value, list):
        raise ValueError(f"{_shown(value)} is not an array")
    dtype = _ARRAYS.get(str(described["type"]))
    if dtype is not None:
        return numpy.array([_leaf(item, str(described["type"])) for item in value], dtype)
    nullable = described["type"] in ("string", "double")  # as MLflow does
    return [None if item is None and nullable else convert(item, described, required) for item in value]


def _object(value: Mapping[str, object], properties: Mapping[str, object]) -> dict[str, object]:
    unknown = sorted(set(value) - set(properties))
    if unknown:
        raise ValueError(f"the object has no property '{unknown[0]}'; it has: {', '.join(properties)}")
    converted: dict[str, object] = {}
    for name, described in properties.items():
        required = _of(described).get("required") is not False
        if name in value:
            try:
                converted[name] = convert(value[name], _of(described), required)
            except ValueError as error:
                raise ValueError(f"in '{name}': {error}") from None
        elif required:
            raise ValueError(f"the property '{name}' is missing")
    return converted


def _leaf(value: object, kind: str) -> object:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in ("integer", "long") and number and isinstance(value, int):
        limits = numpy.iinfo("int32" if kind == "integer" else "int64")
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{value} does not fit into {kind}")
        return numpy.int32(value) if kind == "integer" else value
    if kind in ("float", "double") and number:
        return _floating(float(value), kind)  # type: ignore[arg-type]
    if isinstance(value, str):
        if kind == "string":
            return value
        if kind == "binary":
            return decoded(value)
        if kind == "datetime":
            return dates.from_text([value]).to_numpy()[0]
    raise ValueError(f"{_shown(value)} is not of the type {kind}")


def _floating(value: float, kind: str) -> object:
    if kind == "double":
        return value
    if abs(value) > _LARGEST_FLOAT and value not in (math.inf, -math.inf):
        raise ValueError(f"{value} does not fit into float")
    return numpy.float32(value)


def decoded(text: str | bytes) -> bytes:
    """Bytes from base64, with or without line breaks. Raises ValueError."""
    try:
        return base64.b64decode("".join((text if isinstance(text, str) else text.decode()).split()), validate=True)
    except (binascii.Error, UnicodeError):
        raise ValueError(f"{str(text)[:40]!r} is not base64") from None


def _dictionary(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is not an object")
    return value


def _of(described: object) -> Mapping[str, object]:
    assert isinstance(described, Mapping)
    return described


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:40]


def text(value: object) -> str:
    """A value as JSON text; values that JSON has not are base64, ISO 8601, or their text."""
    return json.dumps(value, default=_encoded)


def _encoded(value: object) -> object:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind not in "mM":
        return value.tolist()
    if isinstance(value, numpy.ndarray):
        return [dates.text(item) for item in value.flat]
    return dates.text(value) or (None if is_null(value) else str(value))


def is_null(value: object) -> bool:
    """Whether a value is null: None, NaN, NaT, or pandas' NA."""
    return (
        value is None or (isinstance(value, (float, numpy.floating)) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")
    )
