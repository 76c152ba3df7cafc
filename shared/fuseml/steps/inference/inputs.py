"""The input of a model, from the tensors of a request.

A model whose signature has columns gets a data frame: from one tensor for each column, or from one matrix [rows, columns]; a model of
tensors gets arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas

from fuseml.steps.inference import errors, signature, tensors


def decode(request: object, named: Sequence[signature.Field]) -> object:
    """What `model.predict` takes, for an inference request: a data frame, an array, or a mapping of arrays. Raises RequestError."""
    if not isinstance(request, Mapping) or not isinstance(request.get("inputs"), list) or not request["inputs"]:
        raise errors.RequestError('the request must be a JSON object with a list of tensors under "inputs"')
    arrays: dict[str, numpy.ndarray] = {}
    for index, item in enumerate(request["inputs"]):
        name, array = tensors.tensor(item, f"inputs[{index}]")
        if name in arrays:
            raise errors.RequestError(f"inputs[{index}].name: '{name}' is used twice")
        arrays[name] = array
    if any(field.column for field in named):
        return _frame(arrays, named)
    if len(arrays) == 1 and len(named) < 2:
        return next(iter(arrays.values()))
    unknown = [name for name in arrays if named and name not in {field.name for field in named}]
    if unknown:
        raise errors.RequestError(f"the model has no input '{unknown[0]}'; it has: {', '.join(field.name for field in named)}")
    return arrays


def _frame(arrays: Mapping[str, numpy.ndarray], named: Sequence[signature.Field]) -> pandas.DataFrame:
    names = [field.name for field in named]
    if len(arrays) == 1 and not set(arrays) & set(names):
        [(name, matrix)] = arrays.items()
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise errors.RequestError(
                f"the model has no input '{name}'; send one tensor for each of {', '.join(names)}, or one of shape [rows, {len(names)}]"
            )
        arrays = {column: matrix[:, index] for index, column in enumerate(names)}
    missing = [field.name for field in named if field.required and field.name not in arrays]
    unknown = [name for name in arrays if name not in names]
    if missing or unknown:
        problem = f"the input '{missing[0]}' is missing" if missing else f"the model has no input '{unknown[0]}'"
        raise errors.RequestError(f"{problem}; the model's inputs are: {', '.join(names)}")
    columns = {}
    for field in named:
        if field.name in arrays:
            columns[field.name] = _column(arrays[field.name], field)
    if len({len(column) for column in columns.values()}) > 1:
        raise errors.RequestError("the inputs differ in their number of rows")
    return pandas.DataFrame(columns)


def _column(array: numpy.ndarray, field: signature.Field) -> Sequence[object] | numpy.ndarray | pandas.Index:
    """One column: a vector, or a matrix of one column. Numbers of the same kind are cast to the signature's width."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise errors.RequestError(f"the input '{field.name}' is a column: its shape must be [rows] or [rows, 1], not {list(array.shape)}")
    if field.column == "datetime":
        try:
            return pandas.to_datetime(array)
        except ValueError as error:
            raise errors.RequestError(f"the input '{field.name}': {error}") from None
    if field.column == "binary":
        return [value.encode() for value in array]
    target = numpy.dtype(tensors.DATATYPES[field.datatype])
    # An unsafe cast (text, fractions to integers) is left out: MLflow refuses the value by name.
    return array.astype(target) if numpy.can_cast(array.dtype, target, "same_kind") else array
