"""A column of a data frame from a tensor, by MLflow's column type.

The result has the type that MLflow's enforcement takes. A value that the type cannot represent exactly is refused, where a cast would change
it in silence; only FP64 is rounded to `float`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy
import pandas

from fuseml.steps.inference import dates, errors, nested, signature, tensors

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FLOATS = {"float": 2**24, "double": 2**53}  # every integer up to it is exact
_INTEGERS = ("integer", "long")


def column(tensor: tensors.Tensor, field: signature.Field) -> numpy.ndarray | pandas.Index | list[object]:
    """The values of the column `field`, one for each row. Raises RequestError."""
    assert field.type is not None
    try:
        if field.content_type == "json":
            return nested.values(tensor, field.type, field.required)
        vector = _vector(tensor)
        if field.column == "boolean":
            return _booleans(tensor, vector)
        if field.column in _INTEGERS:
            return _integers(tensor, vector, field)
        if field.column in _FLOATS:
            return _floats(tensor, vector, field)
        if field.column == "datetime":
            return moments(tensor, vector)
        return _bytes(tensor, vector, field.content_type)
    except (ValueError, errors.RequestError) as error:
        raise errors.RequestError(f"{tensor.where}: the input '{field.name}': {error}; {field.takes()}") from None


def _vector(tensor: tensors.Tensor) -> numpy.ndarray:
    array = tensor.array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"is a column: its shape must be [rows] or [rows, 1], not {list(array.shape)}")
    return array


def _booleans(tensor: tensors.Tensor, vector: numpy.ndarray) -> numpy.ndarray | list[object]:
    if tensor.datatype != "BOOL":
        raise ValueError(f"{tensor.datatype} is not boolean")
    return vector.tolist() if vector.dtype == object else vector


def _integers(tensor: tensors.Tensor, vector: numpy.ndarray, field: signature.Field) -> numpy.ndarray:
    if "INT" not in tensor.datatype:
        raise ValueError(f"{tensor.datatype} is not an integer")
    if vector.dtype == object:
        # MLflow, too, refuses the column in every form.
        way_out = "" if field.required else "leave the column out of a request without values, or "
        raise ValueError(f"holds null, which no integer column of MLflow can; {way_out}train the model with the type double")
    return tensors.integers(vector, numpy.dtype(tensors.DATATYPES[field.datatype]), "the tensor", field.datatype)


def _floats(tensor: tensors.Tensor, vector: numpy.ndarray, field: signature.Field) -> numpy.ndarray:
    target = numpy.dtype(tensors.DATATYPES[field.datatype])
    if vector.dtype.kind == "f":
        return tensors.narrowed(vector, target, "the tensor", field.datatype)
    if "INT" in tensor.datatype:
        numbers = [value for value in vector.tolist() if value is not None]
        if numbers and max(map(abs, numbers)) > _FLOATS[field.column]:
            raise ValueError(f"holds an integer that {field.datatype} cannot represent exactly")
        return vector.astype(target)  # null is NaN
    if tensor.datatype == "BYTES" and tensor.content_type in ("", "str", "decimal"):
        return tensors.narrowed(numpy.array(_decimals(vector), "float64"), target, "the tensor", field.datatype)
    raise ValueError(f"{tensor.datatype} is not a number")


def _decimals(vector: numpy.ndarray) -> list[float | None]:
    texts = strings(vector)
    for text in texts:
        if text is not None and not _DECIMAL.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not a decimal number")
    return [None if text is None else float(text) for text in texts]


def moments(tensor: tensors.Tensor, vector: numpy.ndarray) -> pandas.DatetimeIndex:
    """The dates of a vector: text in ISO 8601, or numbers since 1970 with the tensor's parameter `unit`. Raises ValueError."""
    if tensor.datatype == "BYTES":
        return dates.from_text(strings(vector))
    if tensor.datatype == "BOOL":
        raise ValueError("BOOL is not a date")
    if not tensor.unit:
        raise ValueError('numbers need the unit of their distance from 1970, such as "parameters": {"unit": "ms"}')
    return dates.from_epoch(vector, tensor.unit)


def _bytes(tensor: tensors.Tensor, vector: numpy.ndarray, expected: str) -> list[object]:
    if tensor.datatype != "BYTES":
        raise ValueError(f"{tensor.datatype} is neither text nor bytes")
    if expected == "str":
        return list(strings(vector))
    return list(binaries(vector, tensor.content_type))


def strings(vector: numpy.ndarray) -> list[str | None]:
    """The elements of BYTES as text. Raises ValueError for bytes that are not UTF-8."""
    try:
        texts = [value.decode() if isinstance(value, bytes) else value for value in vector.tolist()]
        "".join(filter(None, texts)).encode()
    except UnicodeError:
        raise ValueError("holds bytes that are not text in UTF-8, or half a character") from None
    return texts


def binaries(vector: numpy.ndarray, content_type: str) -> list[bytes | None]:
    """The elements of BYTES as bytes. JSON text is base64, unless the content type is `str`; bytes of binary data are what they are, unless
    the content type is `base64`. Raises ValueError."""

    def one(value: str | bytes | None) -> bytes | None:
        if value is None:
            return None
        if content_type == "base64" or (isinstance(value, str) and content_type != "str"):
            return nested.decoded(value)
        return value.encode() if isinstance(value, str) else value

    return [one(value) for value in vector.tolist()]


def inferred(tensor: tensors.Tensor) -> numpy.ndarray | pandas.Index | Sequence[object]:
    """A column of a model without a signature, by datatype and content type. Raises RequestError."""
    try:
        vector = _vector(tensor)
        if tensor.content_type == "datetime":
            return moments(tensor, vector)
        if tensor.datatype != "BYTES":
            return vector.tolist() if vector.dtype == object else vector
        if tensor.content_type in ("json", "pd_json"):
            return nested.values(tensor, {"type": "any"}, required=False)
        return binaries(vector, "base64") if tensor.content_type == "base64" else strings(vector)
    except ValueError as error:
        raise errors.RequestError(f"{tensor.where}: the input '{tensor.name}': {error}") from None
