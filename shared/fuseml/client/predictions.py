"""Requests to served models, by the Open Inference Protocol (version 2).

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence

from fuseml.client import transport
from fuseml.domain import errors

Row = Mapping[str, object] | Sequence[object]
"""The values of one row: by name, or in the order of the model's inputs."""

_ZEROS: Mapping[str, object] = {"BYTES": "", "BOOL": False}


class Predictions:
    """Metadata and predictions of served models."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def metadata(self, url: str) -> dict[str, object]:
        """Names, types and shapes of the model's inputs and outputs. `url` is the URL of an application: `.../v2/models/NAME/infer`."""
        return transport.object_of(self._http.call("GET", url.removesuffix("/infer")))

    def predict(self, url: str, row: Row) -> list[object]:
        """The prediction for one row: the data of the model's first output."""
        data, _ = self._infer(url, [row])
        return data

    def predict_rows(self, url: str, rows: Sequence[Row]) -> list[object]:
        """The prediction for each row: a value of the model's first output, or a list of values where the output has several for a row."""
        if not rows:
            return []
        data, width = self._infer(url, rows)
        if len(data) != len(rows) * width:
            raise errors.PermanentError(f"the response of {url} has {len(data)} values for {len(rows)} rows")
        return data if width == 1 else [data[first : first + width] for first in range(0, len(data), width)]

    def _infer(self, url: str, rows: Sequence[Row]) -> tuple[list[object], int]:
        """The data of the first output, and the number of its values for a row."""
        document = inference_request(self.metadata(url), rows)
        outputs = self.infer(url, document).get("outputs")
        if not isinstance(outputs, list) or not outputs or not isinstance(outputs[0].get("data"), list):
            raise errors.PermanentError(f"the response of {url} has no outputs; it is not an endpoint of the Open Inference Protocol")
        shape = outputs[0].get("shape")
        return list(outputs[0]["data"]), math.prod(shape[1:]) if isinstance(shape, list) else 1

    def infer(self, url: str, request: Mapping[str, object]) -> dict[str, object]:
        """The response of a served model to a request in its protocol, unchanged."""
        return transport.object_of(self._http.call("POST", url, document=request))


def inference_request(metadata: Mapping[str, object], rows: Sequence[Row]) -> dict[str, object]:
    """The inference request for rows, for a model with this metadata.

    A model with an input for each column receives the values by name; a model with one tensor receives them in the order of each row.
    Raises InvalidError when a row lacks a column or has another number of values.
    """
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model's metadata has no inputs; log the model with a signature")
    names = [str(item["name"]) for item in inputs]
    if len(inputs) == 1 and not all(isinstance(row, Mapping) and names[0] in row for row in rows):
        return {"inputs": [_matrix(inputs[0], [list(row.values() if isinstance(row, Mapping) else row) for row in rows])]}
    table = [_named(row, names, f"row {number}" if len(rows) > 1 else "the row") for number, row in enumerate(rows, 1)]
    return {"inputs": [_tensor(item, [row[str(item["name"])] for row in table]) for item in inputs]}


def rows_of(document: object) -> list[Mapping[str, object]] | None:
    """The rows of a document: one object of named values, a list of them, or a table as MLflow writes it (`columns` and `data`).

    None for a request in the protocol of the model, which has `inputs`. Raises InvalidError for anything else.
    """
    if isinstance(document, dict) and isinstance(document.get("inputs"), list):
        return None
    for key in ("dataframe_split", "dataframe_records"):
        if isinstance(document, dict) and key in document:
            return rows_of(document[key])
    if isinstance(document, dict) and isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        names = [str(name) for name in document["columns"]]
        rows: list[object] = [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in document["data"]]
    else:
        rows = document if isinstance(document, list) else [document]
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        raise errors.InvalidError('the data are no rows; write an object such as {"age": 0.5}, or a list of such objects')
    return [{str(name): value for name, value in row.items()} for row in rows if isinstance(row, dict)]


def placeholder(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """A row for a model with this metadata: zeros, and empty texts. Raises InvalidError without inputs."""
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model's metadata has no inputs; log the model with a signature")
    if len(inputs) == 1 and (width := _width(inputs[0])) > 1:
        return {str(index): 0 for index in range(width)}
    return {str(item["name"]): _ZEROS.get(str(item.get("datatype")), 0) for item in inputs}


def _named(row: Row, names: Sequence[str], which: str) -> Mapping[str, object]:
    if not isinstance(row, Mapping):
        if len(row) != len(names):
            raise errors.InvalidError(f"the model has {len(names)} inputs, {which} has {len(row)} values")
        return dict(zip(names, row, strict=True))
    missing = [name for name in names if name not in row]
    if missing:
        raise errors.InvalidError(f"{which} lacks inputs of the model: {', '.join(missing)}")
    return row


def _tensor(metadata: Mapping[str, object], column: Sequence[object]) -> dict[str, object]:
    shape = metadata.get("shape")
    rank = len(shape) if isinstance(shape, list) else 1
    return {**_typed(metadata), "shape": [len(column), *[1] * (rank - 1)], "data": list(map(_value, column))}


def _matrix(metadata: Mapping[str, object], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    expected, width = _width(metadata), len(rows[0])
    for row in rows:
        if len(row) != width or (expected > 1 and expected != width):
            raise errors.InvalidError(f"the model has {expected if expected > 1 else width} input values, the row has {len(row)}")
    return {**_typed(metadata), "shape": [len(rows), width], "data": [_value(value) for row in rows for value in row]}


def _typed(metadata: Mapping[str, object]) -> dict[str, object]:
    return {"name": metadata["name"], "datatype": metadata.get("datatype", "FP64")}


def _value(value: object) -> object:
    """The value as JSON has it: null for NaN and NaT, a time as text."""
    if isinstance(value, float | datetime.date) and value != value:  # noqa: PLR0124 - only NaN and NaT differ from themselves
        return None
    return value.isoformat() if isinstance(value, datetime.date) else value


def _width(metadata: Mapping[str, object]) -> int:
    """The number of values of a row; 1 where the shape leaves it open."""
    shape = metadata.get("shape")
    return math.prod(size for size in shape if isinstance(size, int) and size > 0) if isinstance(shape, list) else 1
