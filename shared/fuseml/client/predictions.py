"""Requests to served models, by the Open Inference Protocol (version 2).

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fuseml.client import transport
from fuseml.domain import errors

Row = Mapping[str, object]
"""The values of a row by the names of the columns."""

_ZEROS: Mapping[str, object] = {"BYTES": "", "BOOL": False}


class Predictions:
    """Metadata and predictions of served models."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def metadata(self, url: str) -> dict[str, object]:
        """Names, types and shapes of the model's inputs and outputs. `url` is the URL of an application: `.../v2/models/NAME/infer`."""
        return transport.object_of(self._http.call("GET", url.removesuffix("/infer")))

    def predict(self, url: str, row: Row) -> list[object]:
        """The prediction for one row of named values: the data of the model's first output."""
        outputs = self.infer(url, inference_request(self.metadata(url), row)).get("outputs")
        if not isinstance(outputs, list) or not outputs or not isinstance(outputs[0].get("data"), list):
            raise errors.PermanentError(f"the response of {url} has no outputs; it is not an endpoint of the Open Inference Protocol")
        return list(outputs[0]["data"])

    def infer(self, url: str, request: Mapping[str, object]) -> dict[str, object]:
        """The response of a served model to a request in its protocol, unchanged."""
        return transport.object_of(self._http.call("POST", url, document=request))


def inference_request(metadata: Mapping[str, object], *rows: Row) -> dict[str, object]:
    """The inference request for rows of named values, for a model with this metadata.

    A model with an input for each column receives the values by name; a model with one tensor receives them in the rows' order.
    Raises InvalidError when a row lacks a column or has another number of values.
    """
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model's metadata has no inputs; log the model with a signature")
    if len(inputs) == 1 and inputs[0]["name"] not in rows[0]:
        values = [list(row.values()) for row in rows]
        for given in values:
            _check_width(inputs[0], given)
        flat = [value for given in values for value in given]
        return {"inputs": [{**_tensor(inputs[0], flat), "shape": [len(rows), len(values[0])]}]}
    for number, row in enumerate(rows, 1):
        missing = [str(item["name"]) for item in inputs if item["name"] not in row]
        if missing:
            which = f"row {number}" if len(rows) > 1 else "the row"
            raise errors.InvalidError(f"{which} lacks inputs of the model: {', '.join(missing)}")
    return {"inputs": [_tensor(item, [row[item["name"]] for row in rows]) for item in inputs]}


def rows_of(document: object) -> list[Row] | None:
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


def placeholder(metadata: Mapping[str, object]) -> Row:
    """A row for a model with this metadata: zeros, and empty texts. Raises InvalidError without inputs."""
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model's metadata has no inputs; log the model with a signature")
    if len(inputs) == 1 and (width := _width(inputs[0])) > 1:
        return {str(index): 0 for index in range(width)}
    return {str(item["name"]): _ZEROS.get(str(item.get("datatype")), 0) for item in inputs}


def _tensor(metadata: Mapping[str, object], values: Sequence[object]) -> dict[str, object]:
    shape = metadata.get("shape")
    rank = len(shape) if isinstance(shape, list) else 1
    full = [len(values)] + [1] * (max(rank, 1) - 1)
    return {"name": metadata["name"], "datatype": metadata.get("datatype", "FP64"), "shape": full, "data": list(values)}


def _check_width(metadata: Mapping[str, object], values: Sequence[object]) -> None:
    width = _width(metadata)
    if width > 1 and width != len(values):
        raise errors.InvalidError(f"the model has {width} input values, the row has {len(values)}")


def _width(metadata: Mapping[str, object]) -> int:
    """The number of values of a row; 1 where the shape leaves it open."""
    shape = metadata.get("shape")
    return math.prod(size for size in shape if isinstance(size, int) and size > 0) if isinstance(shape, list) else 1
