"""Tensors of requests as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy

from fuseml.steps.inference import errors

DATATYPES = {
    "BOOL": "bool",
    **{f"{prefix}INT{bits}": f"{prefix.lower()}int{bits}" for prefix in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BYTES": "object",
}
_MOST_DIMENSIONS = 32  # numpy's own limit, or below it


def datatype(dtype: numpy.dtype[numpy.generic]) -> str:
    """The protocol's name for an array's element type; what it has no name for travels as text."""
    return next((name for name, ours in DATATYPES.items() if dtype == ours), "BYTES")


def tensor(item: object, where: str) -> tuple[str, numpy.ndarray]:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise errors.RequestError(f'{where}: must be an object with "name", "shape", "datatype" and "data"')
    kind, dims, data = item.get("datatype"), item.get("shape"), item.get("data")
    if kind not in DATATYPES:
        raise errors.RequestError(f"{where}.datatype: must be one of {', '.join(DATATYPES)}")
    if (
        not isinstance(dims, list)
        or len(dims) > _MOST_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in dims)
    ):
        raise errors.RequestError(f"{where}.shape: must be a list of sizes")
    if not isinstance(data, list):
        raise errors.RequestError(f"{where}.data: must be a list of values")
    array = _array(data, str(kind), f"{where}.data")
    if array.size != math.prod(dims):
        raise errors.RequestError(f"{where}.data: has {array.size} values, the shape {dims} needs {math.prod(dims)}")
    return item["name"], array.reshape(dims)


def _array(data: list[object], kind: str, where: str) -> numpy.ndarray:
    """Flat or nested values as an array of exactly that type. Raises RequestError for a value that the type cannot represent."""
    dtype = numpy.dtype(DATATYPES[kind])
    try:
        # numpy reads integers on both sides of 2**63 as floats; as objects they stay integers.
        read = numpy.array(data, dtype=object if kind in ("BYTES", "UINT64") else None)
    except (ValueError, OverflowError):
        raise errors.RequestError(f"{where}: the rows differ in length, or a number is too large") from None
    if read.size == 0:
        return read.astype(dtype)
    if kind == "BYTES":
        if not all(isinstance(value, str) for value in read.flat):
            raise errors.RequestError(f"{where}: BYTES must be text")
        return read
    if kind == "UINT64":
        if not all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64 for value in read.flat):
            raise errors.RequestError(f"{where}: holds values that are not {kind}")
        return read.astype(dtype)
    if read.dtype == object and kind.startswith("FP") and all(value is None or _number(value) for value in read.flat):
        read = read.astype("float64")  # null is NaN
    allowed = "b" if kind == "BOOL" else "iuf" if kind.startswith("FP") else "iu"
    if read.dtype.kind not in allowed:
        raise errors.RequestError(f"{where}: holds values that are not {kind}")
    if read.dtype.kind in "iu" and dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        if read.min() < limits.min or read.max() > limits.max:
            raise errors.RequestError(f"{where}: holds a number that does not fit into {kind}")
    return read.astype(dtype)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
