"""Calling what an application serves, by the Open Inference Protocol (version 2).

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fuseml.client import transport
from fuseml.domain import errors


class Predictions:
    """A served model's metadata and answers."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def metadata(self, url: str) -> dict[str, object]:
        """Names, types and shapes of the model's inputs and outputs. `url` is an application's: it ends in `/v2/models/NAME/infer`."""
        return transport.object_of(self._http.call("GET", url.removesuffix("/infer")))

    def predict(self, url: str, row: Mapping[str, float]) -> list[object]:
        """The model's answer for one row of named values: the data of its first output."""
        document = inference_request(self.metadata(url), row)
        outputs = transport.object_of(self._http.call("POST", url, document=document)).get("outputs")
        if not isinstance(outputs, list) or not outputs or not isinstance(outputs[0].get("data"), list):
            raise errors.PermanentError(f"{url} answered without outputs; it does not speak the Open Inference Protocol")
        return list(outputs[0]["data"])


def inference_request(metadata: Mapping[str, object], row: Mapping[str, float]) -> dict[str, object]:
    """The request that a model with this metadata understands for one row.

    A model that has an input for each column gets them by name; a model with one tensor gets the row in its order.
    Raises InvalidError when the model wants columns that the row does not have.
    """
    inputs = metadata.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise errors.InvalidError("the model does not say what it wants as input; log it with a signature")
    if len(inputs) == 1 and inputs[0]["name"] not in row:
        values = list(row.values())
        _check_width(inputs[0], values)
        return {"inputs": [{**_tensor(inputs[0], values), "shape": [1, len(values)]}]}
    missing = [str(item["name"]) for item in inputs if item["name"] not in row]
    if missing:
        raise errors.InvalidError(f"the model wants {', '.join(missing)}, which the row does not have")
    return {"inputs": [_tensor(item, [row[item["name"]]]) for item in inputs]}


def _tensor(described: Mapping[str, object], values: Sequence[float]) -> dict[str, object]:
    shape = described.get("shape")
    rank = len(shape) if isinstance(shape, list) else 1
    return {"name": described["name"], "datatype": described.get("datatype", "FP64"), "shape": [1] * max(rank, 1), "data": list(values)}


def _check_width(described: Mapping[str, object], values: Sequence[float]) -> None:
    shape = described.get("shape")
    wanted = math.prod(size for size in shape if isinstance(size, int) and size > 0) if isinstance(shape, list) else len(values)
    if wanted > 1 and wanted != len(values):
        raise errors.InvalidError(f"the model wants {wanted} values, the row has {len(values)}")
