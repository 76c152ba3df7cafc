"""Tensors in binary form: little-endian, row-major, without padding; an element of BYTES is its length in 4 bytes, then its bytes.

The form has no null: the parameter `nulls` of a tensor lists the positions of null elements, such as "0,3".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy

from fuseml.steps.inference import errors

_LENGTH = struct.Struct("<I")
_LONGEST = 19  # digits of a position


def unpack(raw: bytes, kind: str, dtype: str, size: int, where: str) -> numpy.ndarray:
    """`size` elements of the datatype `kind`, whose arrays have the element type `dtype`. Raises RequestError."""
    if kind == "BYTES":
        return _unpack_bytes(raw, size, where)
    stored = numpy.dtype({"BOOL": "u1", "BF16": "u2"}.get(kind, dtype)).newbyteorder("<")
    if len(raw) != size * stored.itemsize:
        raise errors.RequestError(f"{where}: has {len(raw)} bytes, {size} elements of {kind} need {size * stored.itemsize}")
    array = numpy.frombuffer(raw, stored)
    if kind == "BOOL":
        if array.size and array.max() > 1:
            raise errors.RequestError(f"{where}: a BOOL is a byte of value 0 or 1")
        return array.astype(bool)
    if kind == "BF16":  # the upper half of an FP32
        return (array.astype("uint32") << 16).view("float32")
    return array.astype(dtype)  # a copy in the machine's byte order, which a model may change


def _unpack_bytes(raw: bytes, size: int, where: str) -> numpy.ndarray:
    elements, offset = [], 0
    while offset < len(raw):
        if offset + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, offset)
        begin = offset + _LENGTH.size
        offset = begin + length
        elements.append(bytes(raw[begin:offset]))
    if offset != len(raw) or len(elements) != size:
        raise errors.RequestError(f"{where}: is not {size} elements of BYTES, each its length in 4 little-endian bytes and then its bytes")
    return of_objects(elements)


def of_objects(values: Sequence[object]) -> numpy.ndarray:
    """A vector of these objects, also if they are sequences."""
    array = numpy.empty(len(values), object)
    array[:] = values
    return array


def with_nulls(array: numpy.ndarray, nulls: object, where: str) -> numpy.ndarray:
    """The array with null at the positions that the parameter `nulls` lists. Raises RequestError."""
    text = str(nulls)
    positions = [int(part) for part in text.split(",") if part.isascii() and part.isdigit() and len(part) <= _LONGEST]
    if len(positions) != len(text.split(",")) or max(positions) >= array.size:
        raise errors.RequestError(f'{where}: must list positions of elements, such as "0,3"')
    changed = array.copy() if array.dtype.kind == "f" else array.astype(object)
    changed.reshape(-1)[positions] = numpy.nan if array.dtype.kind == "f" else None
    return changed


def as_bytes(value: str | bytes | None) -> bytes:
    """An element of BYTES; a null one is empty. Half a character, which a model may return, has no bytes of its own in UTF-8."""
    return value if isinstance(value, bytes) else (value or "").encode("utf-8", "surrogatepass")


def null_positions(array: numpy.ndarray) -> list[int]:
    """The positions of null elements that binary data cannot hold; NaN is a number to it."""
    return [index for index, value in enumerate(array.flat) if value is None] if array.dtype == object else []


def pack(array: numpy.ndarray, kind: str, dtype: str) -> bytes:
    """The elements of an array of the datatype `kind`. A null element is empty, false or zero."""
    if kind == "BYTES":
        parts = [as_bytes(value) for value in array.flat]
        return b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    if array.dtype == object:
        array = numpy.array([0 if value is None else value for value in array.flat])
    return array.astype(numpy.dtype(dtype).newbyteorder("<")).tobytes()
