"""Columns of arrays, objects, maps and any values: JSON values in the types that MLflow's enforcement takes.

MLflow takes no integer of Python as `integer`, no float of Python as `float`, and only numpy's dates: these become values of numpy.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence

import numpy

from fuseml.steps.inference import dates, tensors

# Lists of these types are refused by MLflow, arrays of numpy are taken.
_ARRAYS = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}
_INFINITY = re.compile(r'"(?:[^"\\]|\\.)*"|Infinity')  # or text, which may hold the word
_SCALARS = {str, int, float, bool, type(None)}
_SHOWN = 40  # characters of a refused value
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
        raise ValueError(f"{str(text)[:_SHOWN]!r} is not JSON") from None


def convert(value: object, described: Mapping[str, object], required: bool = True) -> object:
    """A JSON value as a column type; bytes and dates of other formats are `binary` and `datetime` as they are. Raises ValueError."""
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
        raise ValueError(f"the object has no property {unknown[0][:_SHOWN]!r}; it has: {', '.join(properties)}")
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
            raise ValueError(f"{_shown(value)} does not fit into {kind}")
        return numpy.int32(value) if kind == "integer" else value
    if kind in ("float", "double") and number:
        return _floating(value, kind)  # type: ignore[arg-type]
    if kind == "binary" and isinstance(value, bytes):
        return value
    if isinstance(value, str):
        if kind == "string":
            return value
        if kind == "binary":
            return decoded(value)
    moment = value if isinstance(value, str) else dates.text(value)
    if kind == "datetime" and moment is not None:
        return dates.from_text([moment]).to_numpy()[0]
    raise ValueError(f"{_shown(value)} is not of the type {kind}")


def _floating(number: float, kind: str) -> object:
    try:
        value = float(number)
    except OverflowError:
        raise ValueError(f"{_shown(number)} does not fit into {kind}") from None
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
        raise ValueError(f"{str(text)[:_SHOWN]!r} is not base64") from None


def _dictionary(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is not an object")
    return value


def _of(described: object) -> Mapping[str, object]:
    assert isinstance(described, Mapping)
    return described


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:_SHOWN]


def text(value: object, ascii: bool = True) -> str:
    """A value as JSON text (`encoded`), with `ascii` in ASCII characters only."""
    if _is_plain(value):
        try:
            return json.dumps(value, ensure_ascii=ascii, allow_nan=False)
        except ValueError:  # NaN or an infinity, which JSON has not
            return _walked(value, ascii)
    return _walked(value, ascii)


def _is_plain(value: object) -> bool:
    """Whether the value has only types of JSON, in which `encoded` changes nothing but NaN. It looks at containers one by one, and at their
    scalars in C."""
    if type(value) is dict:
        return set(map(type, value)) <= {str} and _is_plain(list(value.values()))
    if type(value) not in (list, tuple):
        return type(value) in _SCALARS
    assert isinstance(value, (list, tuple))
    return set(map(type, value)) <= _SCALARS or all(type(item) in _SCALARS or _is_plain(item) for item in value)


def _walked(value: object, ascii: bool) -> str:
    written = json.dumps(encoded(value), ensure_ascii=ascii)
    # JSON has no infinity, but numbers so large that every reader of 64-bit numbers takes them for it.
    if "Infinity" not in written:
        return written
    return _INFINITY.sub(lambda found: found[0].replace("Infinity", "1e999") if found[0][0] != '"' else found[0], written)


def encoded(value: object) -> object:
    """A value in the types of JSON. Values that JSON has not are base64, ISO 8601, or their text; NaN is null."""
    if isinstance(value, Mapping):
        return {_key(name): encoded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(item) for item in value]
    if isinstance(value, (float, numpy.floating)):
        return None if math.isnan(value) else float(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, numpy.ndarray):
        if value.dtype.kind in "mM":  # as a list they may be integers
            return [encoded(item) for item in value] if value.ndim else encoded(value[()])
        return encoded(value.tolist())
    if isinstance(value, numpy.generic) and value.dtype.kind in "bui":
        return value.item()
    return dates.text(value) or (None if is_null(value) else str(value))


def _key(name: object) -> str:
    """The name of a member of an object: text as it is, other values as JSON writes them."""
    if isinstance(name, str):
        return name
    plain = encoded(name)
    return plain if isinstance(plain, str) else json.dumps(plain)


def is_null(value: object) -> bool:
    """Whether a value is null: None, NaN, NaT, or pandas' NA."""
    return (
        value is None or (isinstance(value, (float, numpy.floating)) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")
    )
