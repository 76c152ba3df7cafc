"""Requests of the Open Inference Protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fuseml.steps.inference import inputs, messages, signature


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None, **parameters: object) -> dict[str, Any]:
    given = {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}
    return {**given, "parameters": parameters} if parameters else given


def decode(*tensors: object, fields: Sequence[signature.Field] = (), content_type: str = "") -> Any:
    """The input of a model with these fields, for a request with these tensors."""
    request = messages.read(json.dumps({"inputs": tensors}).encode())
    return inputs.decode(request.tensors, fields, content_type)
