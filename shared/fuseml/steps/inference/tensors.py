"""Conversion between tensors of the Open Inference Protocol (v2, JSON form) and the inputs and outputs of MLflow models.

Pure functions. A model whose signature has columns gets a data frame: from one tensor for each column, or from one matrix [rows, columns];
a model of tensors gets arrays. An invalid request raises RequestError. Specification: kserve/open-inference-protocol, "Inference REST";
its extension for binary tensor data is not supported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import pandas

_DATATYPES = {
    "BOOL": "bool",
    **{f"{prefix}INT{bits}": f"{prefix.lower()}int{bits}" for prefix in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BYTES": "object",
}
# MLflow's column types; those without numbers travel as text.
_COLUMN_DATATYPES = {"boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}
_MOST_DIMENSIONS = 32  # numpy's own limit, or below it
_UNNAMED = "output-0"


class RequestError(Exception):
    """The request violates the protocol or the model's signature."""


@dataclass(frozen=True)
class Field:
    """A named input or output of a model. `dims` has -1 for any size; `column` is MLflow's column type, empty for tensors."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    column: str = ""
    required: bool = True

    def metadata(self) -> dict[str, object]:
        """The field in a model metadata response."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.dims)}


def fields(schema: Sequence[Mapping[str, object]] | None, unnamed: str) -> list[Field]:
    """The fields of one side of a signature, in MLflow's form (`Schema.to_dict()`); `unnamed` is the name of a field without one."""
    named = []
    for index, item in enumerate(schema or ()):
        name = str(item.get("name") or (unnamed if index == 0 else f"{unnamed}-{index}"))
        spec = item.get("tensor-spec")
        if isinstance(spec, Mapping):
            named.append(Field(name, datatype(numpy.dtype(str(spec["dtype"]))), tuple(spec["shape"])))
        else:
            column = str(item["type"])
            named.append(Field(name, _COLUMN_DATATYPES.get(column, "BYTES"), (-1,), column, bool(item.get("required", True))))
    return named


def datatype(dtype: numpy.dtype[numpy.generic]) -> str:
    """The protocol's name for an array's element type; what it has no name for travels as text."""
    return next((name for name, ours in _DATATYPES.items() if dtype == ours), "BYTES")


def decode(request: object, signature: Sequence[Field]) -> object:
    """What `model.predict` takes, for an inference request: a data frame, an array, or a mapping of arrays. Raises RequestError."""
    if not isinstance(request, Mapping) or not isinstance(request.get("inputs"), list) or not request["inputs"]:
        raise RequestError('the request must be a JSON object with a list of tensors under "inputs"')
    tensors: dict[str, numpy.ndarray] = {}
    for index, item in enumerate(request["inputs"]):
        name, array = _tensor(item, f"inputs[{index}]")
        if name in tensors:
            raise RequestError(f"inputs[{index}].name: '{name}' is used twice")
        tensors[name] = array
    if any(field.column for field in signature):
        return _frame(tensors, signature)
    if len(tensors) == 1 and len(signature) < 2:
        return next(iter(tensors.values()))
    unknown = [name for name in tensors if signature and name not in {field.name for field in signature}]
    if unknown:
        raise RequestError(f"the model has no input '{unknown[0]}'; it has: {', '.join(field.name for field in signature)}")
    return tensors


def _tensor(item: object, where: str) -> tuple[str, numpy.ndarray]:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise RequestError(f'{where}: must be an object with "name", "shape", "datatype" and "data"')
    kind, dims, data = item.get("datatype"), item.get("shape"), item.get("data")
    if kind not in _DATATYPES:
        raise RequestError(f"{where}.datatype: must be one of {', '.join(_DATATYPES)}")
    if (
        not isinstance(dims, list)
        or len(dims) > _MOST_DIMENSIONS
        or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in dims)
    ):
        raise RequestError(f"{where}.shape: must be a list of sizes")
    if not isinstance(data, list):
        raise RequestError(f"{where}.data: must be a list of values")
    array = _array(data, str(kind), f"{where}.data")
    if array.size != math.prod(dims):
        raise RequestError(f"{where}.data: has {array.size} values, the shape {dims} needs {math.prod(dims)}")
    return item["name"], array.reshape(dims)


def _array(data: list[object], kind: str, where: str) -> numpy.ndarray:
    """Flat or nested values as an array of exactly that type. Raises RequestError for a value that the type cannot represent."""
    dtype = numpy.dtype(_DATATYPES[kind])
    try:
        # numpy reads integers on both sides of 2**63 as floats; as objects they stay integers.
        read = numpy.array(data, dtype=object if kind in ("BYTES", "UINT64") else None)
    except (ValueError, OverflowError):
        raise RequestError(f"{where}: the rows differ in length, or a number is too large") from None
    if read.size == 0:
        return read.astype(dtype)
    if kind == "BYTES":
        if not all(isinstance(value, str) for value in read.flat):
            raise RequestError(f"{where}: BYTES must be text")
        return read
    if kind == "UINT64":
        if not all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64 for value in read.flat):
            raise RequestError(f"{where}: holds values that are not {kind}")
        return read.astype(dtype)
    if read.dtype == object and kind.startswith("FP") and all(value is None or _number(value) for value in read.flat):
        read = read.astype("float64")  # null is NaN
    allowed = "b" if kind == "BOOL" else "iuf" if kind.startswith("FP") else "iu"
    if read.dtype.kind not in allowed:
        raise RequestError(f"{where}: holds values that are not {kind}")
    if read.dtype.kind in "iu" and dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        if read.min() < limits.min or read.max() > limits.max:
            raise RequestError(f"{where}: holds a number that does not fit into {kind}")
    return read.astype(dtype)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _frame(tensors: Mapping[str, numpy.ndarray], signature: Sequence[Field]) -> pandas.DataFrame:
    names = [field.name for field in signature]
    if len(tensors) == 1 and not set(tensors) & set(names):
        [(name, matrix)] = tensors.items()
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise RequestError(
                f"the model has no input '{name}'; send one tensor for each of {', '.join(names)}, or one of shape [rows, {len(names)}]"
            )
        tensors = {column: matrix[:, index] for index, column in enumerate(names)}
    missing = [field.name for field in signature if field.required and field.name not in tensors]
    unknown = [name for name in tensors if name not in names]
    if missing or unknown:
        problem = f"the input '{missing[0]}' is missing" if missing else f"the model has no input '{unknown[0]}'"
        raise RequestError(f"{problem}; the model's inputs are: {', '.join(names)}")
    columns = {}
    for field in signature:
        if field.name in tensors:
            columns[field.name] = _column(tensors[field.name], field)
    if len({len(column) for column in columns.values()}) > 1:
        raise RequestError("the inputs differ in their number of rows")
    return pandas.DataFrame(columns)


def _column(array: numpy.ndarray, field: Field) -> Sequence[object] | numpy.ndarray | pandas.Index:
    """One column: a vector, or a matrix of one column. Numbers of the same kind are cast to the signature's width."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise RequestError(f"the input '{field.name}' is a column: its shape must be [rows] or [rows, 1], not {list(array.shape)}")
    if field.column == "datetime":
        try:
            return pandas.to_datetime(array)
        except ValueError as error:
            raise RequestError(f"the input '{field.name}': {error}") from None
    if field.column == "binary":
        return [value.encode() for value in array]
    target = numpy.dtype(_DATATYPES[field.datatype])
    # An unsafe cast (text, fractions to integers) is left out: MLflow refuses the value by name.
    return array.astype(target) if numpy.can_cast(array.dtype, target, "same_kind") else array


def encode(prediction: object, named: Sequence[Field]) -> list[dict[str, object]]:
    """The tensors of an inference response for a result of `model.predict`; `named` are the signature's outputs."""
    if isinstance(prediction, pandas.DataFrame):
        return [_output(str(name), prediction[name].to_numpy()) for name in prediction.columns]
    if isinstance(prediction, Mapping):
        return [_output(str(name), numpy.asarray(value)) for name, value in prediction.items()]
    array = prediction.to_numpy() if isinstance(prediction, pandas.Series) else _any_array(prediction)
    return [_output(named[0].name if len(named) == 1 else _UNNAMED, array)]


def selected(tensors: list[dict[str, object]], requested: object) -> list[dict[str, object]]:
    """The tensors in a request's `outputs`, in its order; all of them if it names none. Raises RequestError for unknown names."""
    by_name = {str(tensor["name"]): tensor for tensor in tensors}
    names = [str(item.get("name")) for item in requested if isinstance(item, Mapping)] if isinstance(requested, list) else []
    for name in names:
        if name not in by_name:
            raise RequestError(f"the model has no output '{name}'; it has: {', '.join(by_name)}")
    return [by_name[name] for name in names] or tensors


def _any_array(prediction: object) -> numpy.ndarray:
    try:
        return numpy.atleast_1d(numpy.asarray(prediction))
    except ValueError:  # rows of different lengths: each becomes a text
        rows = list(prediction) if isinstance(prediction, Sequence) else [prediction]
        array = numpy.empty(len(rows), dtype=object)
        array[:] = rows
        return array


def _output(name: str, array: numpy.ndarray) -> dict[str, object]:
    kind = datatype(array.dtype)
    values = array.ravel().tolist() if array.dtype.kind != "M" else numpy.datetime_as_string(array.ravel()).tolist()
    if kind == "BYTES":
        values = [value if isinstance(value, str) else json.dumps(value, default=str) for value in values]
    elif array.dtype.kind == "f":
        values = [value if math.isfinite(value) else None for value in values]  # JSON has no NaN
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": values}
