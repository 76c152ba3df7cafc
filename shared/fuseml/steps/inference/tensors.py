"""Tensors: a name, a datatype, a shape and values.

Values of BYTES are objects: text from JSON, bytes from binary data. Null is NaN in the datatypes of floating-point numbers; in all others the
values are objects, and null is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy

from fuseml.steps.inference import binary, errors

DATATYPES = {
    "BOOL": "bool",
    **{f"{prefix}INT{bits}": f"{prefix.lower()}int{bits}" for prefix in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "float32",  # numpy has no such type: its values are those of FP32
    "BYTES": "object",
}
_MOST_DIMENSIONS = 32  # numpy's own limit, or below it
_BITS = 63  # of a size
_MOST_EMPTY = 2**16  # the product of the other sizes of a tensor without values
_NULL = type(None)
_INTEGERS, _NUMBERS = {int, _NULL}, {int, float, _NULL}
_TAKES = {"BOOL": ("true and false", {bool, _NULL}), "BYTES": ("text", {str, _NULL})}
_CONTENT_TYPES = ("", "str", "base64", "datetime", "json", "pd_json", "decimal", "np", "pd")
_UNITS = ("", "s", "ms", "us", "ns")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request or a response. `where` is its place in the request, for messages."""

    name: str
    datatype: str
    array: numpy.ndarray
    content_type: str = ""
    unit: str = ""
    where: str = field(default="", compare=False)


def datatype(dtype: numpy.dtype[numpy.generic]) -> str:
    """The protocol's name for an array's element type; values of an element type without one travel as text, in BYTES."""
    return next((name for name, ours in DATATYPES.items() if dtype == ours), "BYTES")


def read(item: Mapping[str, object], where: str, raw: bytes | None = None, array: numpy.ndarray | None = None) -> Tensor:
    """The tensor of a JSON object. Its values are in binary form `raw`, or in `array`, else the object's `data`. Raises RequestError."""
    kind, dims, parameters = item.get("datatype"), item.get("shape"), item.get("parameters")
    if not isinstance(kind, str) or kind not in DATATYPES:
        raise errors.RequestError(f"{where}.datatype: must be one of {', '.join(DATATYPES)}")
    if (
        not isinstance(dims, list)
        or len(dims) > _MOST_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**_BITS for size in dims)
    ):
        raise errors.RequestError(f"{where}.shape: must be a list of at most {_MOST_DIMENSIONS} sizes, each from 0 to 2**{_BITS} - 1")
    if raw is not None:
        array = binary.unpack(raw, kind, DATATYPES[kind], math.prod(dims), f"{where}: the binary data")
    elif array is None:
        data = item.get("data")
        if not isinstance(data, list):
            raise errors.RequestError(f"{where}.data: must be a list of values")
        array = from_values(data, kind, f"{where}.data")
    if array.size != math.prod(dims):
        raise errors.RequestError(f"{where}: has {array.size} values, the shape {dims} needs {math.prod(dims)}")
    if math.prod(size or 1 for size in dims) > max(array.size, _MOST_EMPTY):
        raise errors.RequestError(f"{where}.shape: a tensor without values has sizes whose product is at most {_MOST_EMPTY}, zeros apart")
    return build(str(item["name"]), kind, array.reshape(dims), parameters, where)


def build(name: str, kind: str, array: numpy.ndarray, parameters: object, where: str) -> Tensor:
    """A tensor with the values of `array` and the parameters of a request. Raises RequestError for invalid parameters."""
    if parameters is None:
        return Tensor(name, kind, array, where=where)
    if not isinstance(parameters, Mapping):
        raise errors.RequestError(f"{where}.parameters: must be an object")
    content_type, unit = parameters.get("content_type") or "", parameters.get("unit") or ""
    if content_type not in _CONTENT_TYPES:
        raise errors.RequestError(f"{where}.parameters.content_type: must be one of {', '.join(filter(None, _CONTENT_TYPES))}")
    if unit not in _UNITS:
        raise errors.RequestError(f"{where}.parameters.unit: must be one of {', '.join(filter(None, _UNITS))}")
    if "nulls" in parameters:
        array = binary.with_nulls(array, parameters["nulls"], f"{where}.parameters.nulls")
    return Tensor(name, kind, array, str(content_type), str(unit), where)


def from_values(data: list[object], kind: str, where: str) -> numpy.ndarray:
    """Flat or nested values as an array of exactly that datatype. Raises RequestError for a value that it cannot represent."""
    dtype = numpy.dtype(DATATYPES[kind])
    try:
        types = _types(data)
    except RecursionError:
        raise errors.RequestError(f"{where}: the lists are nested too deeply") from None
    if not types:
        return numpy.empty(0, dtype)
    takes, allowed = _TAKES.get(kind, ("numbers", _NUMBERS) if dtype.kind == "f" else ("integers", _INTEGERS))
    if not types <= allowed:
        raise errors.RequestError(f"{where}: holds values that are not {kind}, which takes {takes}")
    try:
        if dtype.kind == "f":
            return narrowed(numpy.array(data, "float64"), dtype, where, kind)
        array = numpy.array(data, object if _NULL in types or kind in ("BYTES", "UINT64") else None)
    except (ValueError, OverflowError):
        array = None
    if array is None or (array.dtype == object and list in set(map(type, array.flat))):
        raise errors.RequestError(f"{where}: the rows differ in length, or a number is too large")
    return array if dtype.kind in "bO" else integers(array, dtype, where, kind)


def narrowed(array: numpy.ndarray, dtype: numpy.dtype[numpy.generic], where: str, kind: str) -> numpy.ndarray:
    """Floating-point numbers in another width. Raises RequestError for a number that becomes infinite."""
    if array.dtype == dtype:
        return array
    with numpy.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize and not numpy.array_equal(numpy.isinf(cast), numpy.isinf(array)):
        raise errors.RequestError(f"{where}: holds a number that does not fit into {kind}")
    return cast


def integers(array: numpy.ndarray, dtype: numpy.dtype[numpy.generic], where: str, kind: str) -> numpy.ndarray:
    """Integers in another width, as objects if some are null. Raises RequestError for one that does not fit."""
    limits = numpy.iinfo(dtype.name)
    if array.dtype == object:
        numbers = [value for value in array.flat if value is not None]
        fit = not numbers or (min(numbers) >= limits.min and max(numbers) <= limits.max)
        if fit and len(numbers) < array.size:
            return array
    else:
        # numpy reads integers on both sides of 2**63 as floats.
        fit = array.dtype.kind in "iu" and (not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max))
    if not fit:
        raise errors.RequestError(f"{where}: holds a number that does not fit into {kind}")
    return array.astype(dtype, copy=False)


def _types(data: list[object]) -> set[type]:
    """The types of the innermost values."""
    types = set(map(type, data))
    if list in types:
        types.discard(list)
        for item in data:
            if isinstance(item, list):
                types |= _types(item)
    return types
