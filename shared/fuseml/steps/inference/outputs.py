"""The tensors of a response, from the prediction of a model.

Numbers and booleans keep their type. All other values travel in BYTES, and the content type states their form: `str`, `base64`, `datetime`,
`decimal`, or `json` for a mixture and for arrays and objects. A null value (None, NaN outside of floating-point numbers, NaT, NA) stays null.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Mapping, Sequence

import numpy
import pandas

from fuseml.steps.inference import binary, dates, errors, nested, signature, tensors

_UNNAMED = "output-0"
_INEXACT = 2**53
_BOOLEANS, _INTEGERS, _FLOATS = (bool, numpy.bool_), (int, numpy.integer), (float, numpy.floating)
_FORMS: Sequence[tuple[str, tuple[type, ...], Callable[..., object]]] = (
    ("str", (str,), str),
    ("base64", (bytes, bytearray, memoryview), bytes),
    ("datetime", (datetime.date, datetime.time, numpy.datetime64), dates.text),
    ("decimal", (decimal.Decimal,), str),
    ("json", (object,), nested.text),
)


def encode(prediction: object, named: Sequence[signature.Field]) -> list[tensors.Tensor]:
    """The tensors of a result of `model.predict`; `named` are the signature's outputs."""
    if isinstance(prediction, pandas.DataFrame):
        return [_output(str(label), prediction.iloc[:, index]) for index, label in enumerate(prediction.columns)]
    if isinstance(prediction, Mapping):
        return [_output(str(name), value) for name, value in prediction.items()]
    return [_output(named[0].name if len(named) == 1 else _UNNAMED, prediction)]


def selected(encoded: Sequence[tensors.Tensor], names: Sequence[str]) -> list[tensors.Tensor]:
    """The tensors that a request names, in its order; all of them if it names none. Raises RequestError for unknown names."""
    by_name = {tensor.name: tensor for tensor in encoded}
    for name in names:
        if name not in by_name:
            raise errors.RequestError(f"the model has no output '{name}'; it has: {', '.join(by_name)}")
    return [by_name[name] for name in names] or list(encoded)


def _output(name: str, values: object) -> tensors.Tensor:
    array = _array(values)
    kind = tensors.datatype(array.dtype)
    if kind != "BYTES":
        return tensors.Tensor(name, kind, array)
    flat = array.reshape(-1)
    elements = [None if nested.is_null(value) else _plain(value) for value in (flat if array.dtype.kind == "M" else flat.tolist())]
    present = [value for value in elements if value is not None]
    if present:
        number = _numbers(name, elements, present, array.shape)
        if number is not None:
            return number
    content_type, form = next((form, write) for form, types, write in _FORMS if all(isinstance(value, types) for value in present))
    texts = [None if value is None else form(value) for value in elements]
    return tensors.Tensor(name, "BYTES", binary.of_objects(texts).reshape(array.shape), content_type)


def _plain(value: object) -> object:
    """A scalar of numpy as the value of Python, where Python has one without loss."""
    return value.item() if isinstance(value, numpy.generic) and value.dtype.kind not in "mM" else value


def _numbers(name: str, elements: list[object], present: list[object], dims: tuple[int, ...]) -> tensors.Tensor | None:
    """A tensor of objects that are all booleans, or all numbers of one datatype, beside null; None for others."""
    if all(isinstance(value, _BOOLEANS) for value in present):
        kind = "BOOL"
    elif any(isinstance(value, _BOOLEANS) for value in present):
        return None
    elif all(isinstance(value, _INTEGERS) for value in present):
        low, high = min(present), max(present)  # type: ignore[type-var]
        kind = "INT64" if low >= -(2**63) and high < 2**63 else "UINT64"  # type: ignore[operator]
        if kind == "UINT64" and not (low >= 0 and high < 2**64):  # type: ignore[operator]
            return None
    elif all(isinstance(value, (*_INTEGERS, *_FLOATS)) for value in present):
        kind = "FP64"
    else:
        return None
    dtype = tensors.DATATYPES[kind]
    whole = kind == "FP64" or len(present) == len(elements)
    try:
        array = numpy.array(elements, dtype) if whole else binary.of_objects(elements)
    except OverflowError:  # an integer beyond the greatest floating-point number
        return None
    return tensors.Tensor(name, kind, array.reshape(dims))


def _array(values: object) -> numpy.ndarray:
    if isinstance(values, (pandas.Series, pandas.Index)):
        # Types of pandas' own become objects: their null would make numbers of integers.
        return numpy.asarray(values.to_numpy() if isinstance(values.dtype, numpy.dtype) else values.astype(object).to_numpy())
    if hasattr(values, "toarray"):  # a sparse matrix of scipy
        return numpy.asarray(values.toarray())
    if isinstance(values, (list, tuple)):
        return _of_sequence(values)
    if isinstance(values, (Mapping, bytes, bytearray)):
        return binary.of_objects([values])
    return numpy.atleast_1d(numpy.asarray(values))


def _of_sequence(values: Sequence[object]) -> numpy.ndarray:
    """Objects, because numpy makes text of a mixture; in their dimensions if the innermost values are alike in number."""
    if not any(isinstance(value, (list, tuple, numpy.ndarray)) for value in values):
        return binary.of_objects(list(values))
    try:
        array = numpy.asarray(values)
    except ValueError:  # rows of different lengths
        return binary.of_objects(list(values))
    # numpy makes floats of integers on both sides of 2**63.
    if array.dtype.kind in "biuf" and not (array.dtype.kind == "f" and array.size and numpy.abs(array).max() >= _INEXACT):
        return array
    if array.dtype.kind == "f":
        objects = numpy.array(values, object)
        return array if any(isinstance(value, _FLOATS) for value in objects.flat) else objects
    return numpy.array(values, object) if array.dtype.kind in "OUSM" else binary.of_objects(list(values))
