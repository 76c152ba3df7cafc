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
        outputs = transport.object_of(self._http.call("POST", url, document=document)).get("outputs")
        if not isinstance(outputs, list) or not outputs or not isinstance(outputs[0].get("data"), list):
            raise errors.PermanentError(f"the response of {url} has no outputs; it is not an endpoint of the Open Inference Protocol")
        shape = outputs[0].get("shape")
        return list(outputs[0]["data"]), math.prod(shape[1:]) if isinstance(shape, list) else 1


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
    table = [_named(row, names) for row in rows]
    return {"inputs": [_tensor(item, [row[str(item["name"])] for row in table]) for item in inputs]}


def _named(row: Row, names: Sequence[str]) -> Mapping[str, object]:
    if not isinstance(row, Mapping):
        if len(row) != len(names):
            raise errors.InvalidError(f"the model has {len(names)} inputs, the row has {len(row)} values")
        return dict(zip(names, row, strict=True))
    missing = [name for name in names if name not in row]
    if missing:
        raise errors.InvalidError(f"the row lacks inputs of the model: {', '.join(missing)}")
    return row


def _tensor(metadata: Mapping[str, object], column: Sequence[object]) -> dict[str, object]:
    shape = metadata.get("shape")
    rank = len(shape) if isinstance(shape, list) else 1
    return {**_typed(metadata), "shape": [len(column), *[1] * (rank - 1)], "data": list(map(_value, column))}


def _matrix(metadata: Mapping[str, object], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    shape, width = metadata.get("shape"), len(rows[0])
    expected = math.prod(size for size in shape if isinstance(size, int) and size > 0) if isinstance(shape, list) else width
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
