"""The inputs of a model for rows of a dataset, by the model's signature: columns with MLflow's types, or one matrix.

Without a signature the model gets all columns, as numbers where the first chunk holds only numbers. A value that a column's type cannot represent is
a fault of its row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pandas

from fuseml.steps import sdk
from fuseml.steps.inference import dates, nested
from fuseml.steps.scoring.datasets import Fault, listed

_SHOWN = 40  # characters of a refused value


@dataclass(frozen=True)
class Column:
    """A column that a model takes, with MLflow's type, or numpy's of a matrix. `label` is its name for the model, which may be a number.

    `described` is MLflow's description of the type.
    """

    name: str
    type: str
    required: bool = True
    label: object = None
    described: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """The inputs of a model: `columns`, or a matrix of `width` columns (-1: any) of the type `dtype`; neither without a signature."""

    columns: Sequence[Column] = ()
    dtype: str = ""
    width: int = -1


def signature(schema: Sequence[Mapping[str, Any]] | None) -> Signature:
    """The signature in MLflow's form (`Schema.to_dict()`). Raises StepError for tensors that rows cannot give."""
    items = schema or ()
    if not any("tensor-spec" in item for item in items):
        if any(item.get("name") is None for item in items):
            raise sdk.StepError("the columns of the model's signature have no names: log the model with the signature of a data frame")
        return Signature([_column(item) for item in items])
    spec = items[0]["tensor-spec"]
    dims = list(spec["shape"])
    if len(items) > 1 or len(dims) != 2 or dims[0] != -1:
        raise sdk.StepError("the model takes tensors that are no rows of numbers, so a dataset of rows cannot be scored with it")
    if _type_of(str(spec["dtype"])) not in _CONVERSIONS:
        raise sdk.StepError(f"the model takes a matrix of {spec['dtype']}, so a dataset of rows cannot be scored with it")
    return Signature(dtype=str(spec["dtype"]), width=int(dims[1]))


def _column(item: Mapping[str, Any]) -> Column:
    kind = item["type"]
    return Column(str(item["name"]), str(kind), bool(item.get("required", True)), item["name"], item)


def _type_of(dtype: str) -> str:
    """The type of the columns of a matrix."""
    name = numpy.dtype(dtype).name
    return "string" if name.startswith("str") else _MATRICES.get(name, name)


class Inputs:
    """Converts chunks for one model. `excluded` are columns that it must not get if it has no signature, such as the label."""

    def __init__(self, signature: Signature, excluded: Sequence[str] = ()) -> None:
        self._signature, self._excluded = signature, set(excluded)
        self._columns: Sequence[Column] = signature.columns

    def of(self, frame: pandas.DataFrame) -> tuple[pandas.DataFrame | numpy.ndarray, list[Fault]]:
        """The model's input for the valid rows of the frame, whose index the input of a model of columns keeps, and the faults of the others.

        Raises StepError for a column that is missing altogether.
        """
        if not self._columns:
            self._columns = self._found(frame)
        wanted = [column for column in self._columns if column.required or column.name in frame]
        missing = [column.name for column in wanted if column.name not in frame]
        if missing:
            raise sdk.StepError(
                f"the dataset has no column {missing[0]!r}; it has {listed(frame)}; the model takes {listed(column.name for column in self._columns)}"
            )
        faults: dict[int, Fault] = {}
        values = {column.name: _converted(frame[column.name], column, faults) for column in wanted}
        kept = [position for position, number in enumerate(frame.index) if number not in faults]
        index = frame.index[kept]
        series = {
            column.label: pandas.Series([values[column.name][position] for position in kept], index=index, dtype=_dtype(column))
            for column in wanted
        }
        converted = pandas.DataFrame(series, index=index)
        found = [faults[number] for number in sorted(faults)]
        if self._signature.dtype:
            return converted.to_numpy(dtype=self._signature.dtype), found
        return converted, found

    def _found(self, frame: pandas.DataFrame) -> list[Column]:
        """The columns of a model that names none, from the first chunk."""
        names = [str(name) for name in frame.columns if name not in self._excluded]
        width = self._signature.width
        if self._signature.dtype:
            if width not in (-1, len(names)):
                raise sdk.StepError(f"the model takes {width} columns, and the dataset has {len(names)}: {listed(names)}")
            return [Column(name, _type_of(self._signature.dtype), label=name) for name in names]
        return [Column(name, "double" if _is_numeric(frame[name]) else "any", label=name) for name in names]


def _is_numeric(series: pandas.Series) -> bool:
    present = [value for value in series if value is not None]
    try:
        return bool(present) and all(math.isfinite(_number(value)) for value in present)
    except _Refused:
        return False


class _Refused(Exception):
    """A value that the type of the column cannot represent."""


def _converted(series: pandas.Series, column: Column, faults: dict[int, Fault]) -> list[object]:
    convert, absent = _CONVERSIONS.get(column.type, (_any, None))
    if column.type in _NESTED:
        convert = functools.partial(_nested, column)
    # All dates at once: one alone costs about as much as fifty of a column.
    moments = dates.coerced([_moment_text(value) for value in series]) if column.type == "datetime" else [pandas.NaT] * len(series)
    values: list[object] = []
    for number, value, moment in zip(series.index, series, moments):  # noqa: B905 (Python 3.8)
        try:
            if moment is not pandas.NaT:
                values.append(moment)
            else:
                values.append(convert(value) if value is not None else _absent(column, absent))
        except _Refused as error:
            faults.setdefault(number, Fault(int(number), column.name, str(error)))
            values.append(absent)
    return values


def _absent(column: Column, absent: object) -> object:
    """The value of an empty cell. Numbers with a fraction have NaN; other types have no missing value unless the column is optional."""
    if column.type in _WITH_NAN or (not column.required and column.type not in ("long", "integer", "boolean")):
        return absent
    if column.type == "string":
        return ""
    raise _Refused(f"it is empty, and the model takes the type {column.type}")


def _refused(value: object, wanted: str) -> _Refused:
    return _Refused(f"{str(value)[:_SHOWN]!r} is not {wanted}")


def _number(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise _refused(value, "a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise _refused(value, "a number, such as 0.5") from None


def _floating(dtype: str) -> Callable[[Any], float]:
    largest = float(numpy.finfo(dtype).max)

    def convert(value: Any) -> float:
        number = _number(value)
        if largest < abs(number) < math.inf:
            raise _refused(value, f"a number that fits into {dtype}")
        return number

    return convert


def _integer(dtype: str) -> Callable[[Any], int]:
    limits = numpy.iinfo(dtype)

    def convert(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) and "_" not in value else value
        except ValueError:
            raise _refused(value, "an integer, such as 8") from None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int):
            raise _refused(value, "an integer, such as 8")
        if not limits.min <= number <= limits.max:
            raise _refused(value, f"an integer from {limits.min} to {limits.max}")
        return number

    return convert


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _refused(value, "true or false")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _refused(value, "text")


def _moment_text(value: object) -> str | None:
    return value if isinstance(value, str) else dates.text(value)


def _no_moment(value: object) -> object:
    raise _refused(value, "a date, such as 2026-11-30 or 2026-11-30T12:00:00")


def _binary(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return nested.decoded(value)
    except (AttributeError, ValueError):
        raise _refused(value, "base64") from None


def _nested(column: Column, value: object) -> object:
    try:
        return nested.convert(nested.parsed(value) if isinstance(value, str) else value, column.described, column.required)
    except ValueError as error:
        raise _Refused(str(error)) from None


def _any(value: Any) -> object:
    return value


_CONVERSIONS: Mapping[str, tuple[Callable[[Any], object], object]] = {
    "double": (_number, math.nan),
    "float": (_floating("float32"), math.nan),
    "float16": (_floating("float16"), math.nan),
    "long": (_integer("int64"), 0),
    "integer": (_integer("int32"), 0),
    **{name: (_integer(name), 0) for name in ("int8", "int16", "uint8", "uint16", "uint32", "uint64")},
    "boolean": (_boolean, False),
    "string": (_text, None),
    "datetime": (_no_moment, pandas.NaT),
    "binary": (_binary, None),
    "any": (_any, None),
}
_NESTED = ("array", "object", "map", "sparkml_vector")
_WITH_NAN = ("double", "float", "float16", "any")
_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool", "datetime": "datetime64[ns]"}
# The types of the columns of a matrix; others have the name of its element type.
_MATRICES = {**{dtype: name for name, dtype in _DTYPES.items() if name != "datetime"}, "object": "any"}


def _dtype(column: Column) -> str:
    return _DTYPES.get(column.type) or (column.type if "int" in column.type or column.type == "float16" else "object")
