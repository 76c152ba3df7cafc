"""The tensors of a response, from the prediction of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy
import pandas

from fuseml.steps.inference import errors, signature, tensors

_UNNAMED = "output-0"


def encode(prediction: object, named: Sequence[signature.Field]) -> list[dict[str, object]]:
    """The tensors of an inference response for a result of `model.predict`; `named` are the signature's outputs."""
    if isinstance(prediction, pandas.DataFrame):
        return [_output(str(name), prediction[name].to_numpy()) for name in prediction.columns]
    if isinstance(prediction, Mapping):
        return [_output(str(name), numpy.asarray(value)) for name, value in prediction.items()]
    array = prediction.to_numpy() if isinstance(prediction, pandas.Series) else _any_array(prediction)
    return [_output(named[0].name if len(named) == 1 else _UNNAMED, array)]


def selected(encoded: list[dict[str, object]], requested: object) -> list[dict[str, object]]:
    """The tensors in a request's `outputs`, in its order; all of them if it names none. Raises RequestError for unknown names."""
    by_name = {str(tensor["name"]): tensor for tensor in encoded}
    names = [str(item.get("name")) for item in requested if isinstance(item, Mapping)] if isinstance(requested, list) else []
    for name in names:
        if name not in by_name:
            raise errors.RequestError(f"the model has no output '{name}'; it has: {', '.join(by_name)}")
    return [by_name[name] for name in names] or encoded


def _any_array(prediction: object) -> numpy.ndarray:
    try:
        return numpy.atleast_1d(numpy.asarray(prediction))
    except ValueError:  # rows of different lengths: each becomes a text
        rows = list(prediction) if isinstance(prediction, Sequence) else [prediction]
        array = numpy.empty(len(rows), dtype=object)
        array[:] = rows
        return array


def _output(name: str, array: numpy.ndarray) -> dict[str, object]:
    kind = tensors.datatype(array.dtype)
    values = array.ravel().tolist() if array.dtype.kind != "M" else numpy.datetime_as_string(array.ravel()).tolist()
    if kind == "BYTES":
        values = [value if isinstance(value, str) else json.dumps(value, default=str) for value in values]
    elif array.dtype.kind == "f":
        values = [value if math.isfinite(value) else None for value in values]  # JSON has no NaN
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": values}
