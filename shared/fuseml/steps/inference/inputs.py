"""The input of a model, from the tensors of a request.

A model whose signature has columns gets a data frame: from one tensor for each column, or from one matrix [rows, columns]. A model of tensors
gets an array, or a mapping of arrays by name. Without a signature the content type of the request decides: `pd` makes a frame, `np` arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas

from fuseml.steps.inference import binary, columns, errors, nested, signature, tensors


def decode(sent: Sequence[tensors.Tensor], named: Sequence[signature.Field], content_type: str = "") -> object:
    """What `model.predict` takes: a data frame, an array, or a mapping of arrays. Raises RequestError."""
    if any(field.type is not None for field in named):
        return _frame(sent, named)
    if not named and content_type == "pd":
        return _unsigned_frame(sent)
    if not named:
        arrays = {tensor.name: _array(tensor, tensor.content_type) for tensor in sent}
        return next(iter(arrays.values())) if len(arrays) == 1 else arrays
    return _arrays(sent, named)


def _frame(sent: Sequence[tensors.Tensor], named: Sequence[signature.Field]) -> pandas.DataFrame:
    by_name, names = {tensor.name: tensor for tensor in sent}, [field.name for field in named]
    if len(sent) == 1 and sent[0].name not in names:
        by_name = _split(sent[0], names)
    missing = [field for field in named if field.required and field.name not in by_name]
    unknown = [name for name in by_name if name not in names]
    if unknown:
        raise errors.RequestError(f"the model has no input '{unknown[0]}'; the model's inputs are: {', '.join(names)}")
    if missing:
        problem = f"the input '{missing[0].name}' is missing; the model's inputs are: {', '.join(names)}"
        raise errors.RequestError(f"{problem}; for '{missing[0].name}' {missing[0].takes()}")
    present = [field for field in named if field.name in by_name]
    values = [columns.column(by_name[field.name], field) for field in present]
    return _joined([field.label for field in present], values)


def _split(matrix: tensors.Tensor, names: Sequence[str]) -> dict[str, tensors.Tensor]:
    """The columns of one tensor for all inputs, which may have any name."""
    if matrix.array.ndim != 2 or matrix.array.shape[1] != len(names):
        raise errors.RequestError(
            f"the model has no input '{matrix.name}'; send one tensor for each of {', '.join(names)}, or one of shape [rows, {len(names)}]"
        )
    return {
        name: tensors.Tensor(name, matrix.datatype, matrix.array[:, index], matrix.content_type, matrix.unit, matrix.where)
        for index, name in enumerate(names)
    }


def _unsigned_frame(sent: Sequence[tensors.Tensor]) -> pandas.DataFrame:
    if len(sent) == 1 and sent[0].array.ndim == 2 and sent[0].array.shape[1] > 1:
        return pandas.DataFrame(_array(sent[0], sent[0].content_type))
    return _joined([tensor.name for tensor in sent], [columns.inferred(tensor) for tensor in sent])


def _joined(labels: Sequence[object], values: Sequence[Sequence[object] | numpy.ndarray | pandas.Index]) -> pandas.DataFrame:
    if len({len(column) for column in values}) > 1:
        raise errors.RequestError("the inputs differ in their number of rows")
    try:
        return pandas.DataFrame({label: values[index] for index, label in enumerate(labels)})
    except ValueError as error:  # half a character inside JSON text
        raise errors.RequestError(f"the inputs do not make a data frame: {error}") from None


def _arrays(sent: Sequence[tensors.Tensor], named: Sequence[signature.Field]) -> object:
    if len(sent) == 1 and len(named) == 1:
        array = _typed(sent[0], named[0])
        return array if named[0].label is None else {named[0].label: array}
    by_name, names = {tensor.name: tensor for tensor in sent}, [field.name for field in named]
    for name in by_name:
        if name not in names:
            raise errors.RequestError(f"the model has no input '{name}'; it has: {', '.join(names)}")
    for field in named:
        if field.name not in by_name:
            raise errors.RequestError(f"the input '{field.name}' is missing; {field.takes()}")
    return {field.name if field.label is None else field.label: _typed(by_name[field.name], field) for field in named}


def _typed(tensor: tensors.Tensor, field: signature.Field) -> numpy.ndarray:
    """The array in the signature's element type. Raises RequestError for values that the type cannot represent."""
    target = numpy.dtype(field.dtype or "object")
    try:
        if target.kind == "O":
            return _array(tensor, tensor.content_type)
        if target.kind in "USM":
            return _array(tensor, tensor.content_type or field.content_type, null=False).astype(target)
        if tensor.array.dtype == object:
            raise ValueError("holds null" if tensor.datatype != "BYTES" else "BYTES is not a number")
        if tensor.array.dtype.kind == target.kind == "f":
            return tensors.narrowed(tensor.array, target, "the tensor", field.datatype)
        if tensor.array.dtype.kind in "iu" and target.kind in "iu":
            return tensors.integers(tensor.array, target, "the tensor", field.datatype)
        if tensor.array.dtype != target:
            raise ValueError(f"{tensor.datatype} cannot become {field.dtype}")
    except (ValueError, errors.RequestError) as error:
        raise errors.RequestError(f"{tensor.where}: the input '{field.name}': {error}; {field.takes()}") from None
    return tensor.array


def _array(tensor: tensors.Tensor, content_type: str, null: bool = True) -> numpy.ndarray:
    """The tensor as the array that its content type describes. Raises RequestError, without `null` also for a null element."""
    flat, values = tensor.array.reshape(-1), None
    try:
        if content_type == "datetime":
            return numpy.asarray(columns.moments(tensor, flat)).reshape(tensor.array.shape)
        if tensor.datatype != "BYTES":
            return tensor.array
        if content_type == "base64":
            values = binary.of_objects(columns.binaries(flat, tensor.content_type))
        elif content_type in ("json", "pd_json"):
            values = binary.of_objects([None if text is None else nested.parsed(text) for text in flat.tolist()])
        else:
            values = binary.of_objects(columns.strings(flat))
        if not null and any(value is None for value in values):
            raise ValueError("holds null")
    except ValueError as error:
        raise errors.RequestError(f"{tensor.where}: the input '{tensor.name}': {error}") from None
    return values.reshape(tensor.array.shape)


def content_type(parameters: Mapping[str, object], tabular: bool, number: int) -> str:
    """The form of the input of a model without a signature: what the request asks for, else a frame of several tensors for a `tabular` model."""
    asked = str(parameters.get("content_type") or "")
    if asked not in ("", "pd", "np", "str"):
        raise errors.RequestError("parameters.content_type: must be pd (a data frame) or np (arrays)")
    return asked or ("pd" if tabular and number > 1 else "")
