"""A process that loads models one after the other. Each line of its input is a URI; it answers with both predictions for the same rows.

MLflow's import takes seconds and warns, so all tests share one process of their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import mlflow
import numpy
import pandas

from fuseml.steps import loaded_model
from fuseml.steps.inference import service


def rows_for(schema: Any) -> Any:
    """Three rows for a signature of columns or of a tensor."""
    random = numpy.random.default_rng(7)
    if schema.is_tensor_spec():
        return random.random((3, *schema.inputs[0].shape[1:]))
    return pandas.DataFrame(
        {item.name: random.random(3) > 0.5 if item.type.name == "boolean" else random.random(3) for item in schema.inputs}
    )


def served(uri: str, rows: Any) -> list[float]:
    """The predictions of the model server by the Open Inference Protocol."""
    loaded = loaded_model.load(uri, "model")
    model = service.Service(loaded.name, loaded.version, loaded.uri, loaded.model)
    tensors = []
    inputs: Any = model.metadata()["inputs"]
    for item in inputs:
        data = rows[item["name"]] if isinstance(rows, pandas.DataFrame) else rows
        tensors.append({"name": item["name"], "datatype": item["datatype"], "shape": list(data.shape), "data": data.tolist()})
    answer, _ = asyncio.run(model.infer_body(json.dumps({"inputs": tensors}).encode(), None))
    return [float(value) for value in json.loads(answer)["outputs"][0]["data"]]


for line in sys.stdin:
    uri = line.strip()
    direct = mlflow.pyfunc.load_model(uri)
    rows = rows_for(direct.metadata.get_input_schema())
    expected = numpy.asarray(direct.predict(rows)).reshape(-1).tolist()
    print(json.dumps({"direct": expected, "served": served(uri, rows)}), flush=True)
