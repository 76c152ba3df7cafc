"""Requests to served models, by the Open Inference Protocol (version 2).

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fuseml.client import transport
from fuseml.domain import errors


class Predictions:
    """Metadata and predictions of served models."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def metadata(self, url: str) -> dict[str, object]:
        """Names, types and shapes of the model's inputs and outputs. `url` is the URL of an application: `.../v2/models/NAME/infer`."""
        return transport.object_of(self._http.call("GET", url.removesuffix("/infer")))

    def predict(self, url: str, row: Mapping[str, float]) -> list[object]:
        """The prediction for one row of named values: the data of the model's first output."""
        document = inference_request(self.metadata(url), row)
        outputs = transport.object_of(self._http.call("POST", url, document=document)).get("outputs")
        if not isinstance(outputs, list) or not outputs or not isinstance(outputs[0].get("data"), list):
            raise errors.PermanentError(f"the response of {url} has no outputs; it is not an endpoint of the Open Inference Protocol")
        return list(outputs[0]["data"])


def inference_request(metadata: Mapping[str, object], row: Mapping[str, float]) -> dict[str, object]:
    """The inference request for one row, for a model with this metadata.

    A model with an input for each column receives the values by name; a model with one tensor receives them in the row's order.
    Raises InvalidError when the row lacks a column or has another number of values.
    """
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model's metadata has no inputs; log the model with a signature")
    if len(inputs) == 1 and inputs[0]["name"] not in row:
        values = list(row.values())
        _check_width(inputs[0], values)
        return {"inputs": [{**_tensor(inputs[0], values), "shape": [1, len(values)]}]}
    missing = [str(item["name"]) for item in inputs if item["name"] not in row]
    if missing:
        raise errors.InvalidError(f"the row lacks inputs of the model: {', '.join(missing)}")
    return {"inputs": [_tensor(item, [row[item["name"]]]) for item in inputs]}


def _tensor(metadata: Mapping[str, object], values: Sequence[float]) -> dict[str, object]:
    shape = metadata.get("shape")
    rank = len(shape) if isinstance(shape, list) else 1
    return {"name": metadata["name"], "datatype": metadata.get("datatype", "FP64"), "shape": [1] * max(rank, 1), "data": list(values)}


def _check_width(metadata: Mapping[str, object], values: Sequence[float]) -> None:
    shape = metadata.get("shape")
    width = math.prod(size for size in shape if isinstance(size, int) and size > 0) if isinstance(shape, list) else len(values)
    if width > 1 and width != len(values):
        raise errors.InvalidError(f"the model has {width} input values, the row has {len(values)}")
