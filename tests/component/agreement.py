"""One row set in three forms: a request of the Open Inference Protocol, one of MLflow's own protocol, and a data frame for `model.predict`.

Values are in the form of JSON; `native` is the value that a Python program gives MLflow for it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from tests.component import pyfunc_models
from tests.tensors import tensor

if TYPE_CHECKING:
    from mlflow.types.schema import ColSpec

with pyfunc_models.quiet():
    from mlflow.exceptions import MlflowException

REFUSED = "refused"
_ARRAYS = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}
_VECTORS = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}


def seen(data: Any) -> list[str]:
    """The model: one text, the input with the types of columns and values."""
    if isinstance(data, pandas.DataFrame):
        described = {repr(label): [str(data[label].dtype), *map(_seen, data[label])] for label in data.columns}
        return [json.dumps(described)]
    return [_seen(data)]


def _seen(value: object) -> str:
    if isinstance(value, dict):
        return f"dict{sorted((key, _seen(item)) for key, item in value.items())}"
    if isinstance(value, (list, numpy.ndarray)):
        return f"{type(value).__name__}:{getattr(value, 'dtype', '')}{[_seen(item) for item in value]}"
    return f"{type(value).__name__}:{value!r}"


def native(described: Mapping[str, Any], value: Any) -> Any:
    """The Python value for a JSON value of MLflow's type `described`, as MLflow's enforcement takes it."""
    kind = described["type"]
    if value is None or kind == "any":
        return value
    if kind == "array":
        items = [native(described["items"], item) for item in value]
        dtype = _ARRAYS.get(described["items"]["type"])
        return items if dtype is None else numpy.array(items, dtype)
    if kind == "map":
        return {key: native(described["values"], item) for key, item in value.items()}
    if kind == "object":
        return {key: native(described["properties"][key], item) for key, item in value.items()}
    if kind == "binary":
        return base64.b64decode(value)
    if kind == "datetime":
        return numpy.datetime64(value, "ns")
    if kind == "integer":
        return numpy.int32(value)
    return numpy.float32(value) if kind == "float" else value


@dataclass(frozen=True)
class Rows:
    """Columns of values, by position in the signature; a column that is None is left out."""

    columns: Sequence[ColSpec]
    values: Sequence[Sequence[Any] | None]

    def sent(self) -> list[tuple[int, ColSpec, Sequence[Any]]]:
        return [
            (index, column, values)
            for index, (column, values) in enumerate(zip(self.columns, self.values, strict=True))
            if values is not None
        ]

    def frame(self) -> pandas.DataFrame:
        built: dict[Any, Any] = {}
        for index, column, values in self.sent():
            described = column.to_dict()
            items: Any = [native(described, value) for value in values]
            dtype = _VECTORS.get(described["type"])
            if described["type"] == "datetime":
                items = pandas.to_datetime(pandas.Series(items, dtype="datetime64[ns]"))
            elif dtype is not None and (None not in values or "float" in dtype):
                items = numpy.array(items, dtype)
            built[index if column.name is None else column.name] = items
        return pandas.DataFrame(built)

    def request(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The request that the model's metadata asks for."""
        tensors = []
        for index, _, values in self.sent():
            described = metadata["inputs"][index]
            nested = described.get("parameters", {}).get("content_type") == "json"
            data = [None if value is None else json.dumps(value) for value in values] if nested else list(values)
            tensors.append(tensor(described["name"], described["datatype"], data))
        return {"inputs": tensors}

    def invocation(self) -> dict[str, Any]:
        sent = self.sent()
        rows = [list(row) for row in zip(*(values for _, _, values in sent), strict=True)]
        split: dict[str, Any] = {"data": rows}
        if self.columns[0].name is not None:
            split["columns"] = [column.name for _, column, _ in sent]
        return {"dataframe_split": split}


@dataclass(frozen=True)
class Outcome:
    """The answer, or `REFUSED`, by each way."""

    direct: object
    v2: object
    invocations: object
    refusal: str = ""


def outcomes(rows: Rows) -> Outcome:
    """What the model sees by each way. Raises AssertionError for a response that is neither an answer nor a refusal."""
    loaded = pyfunc_models.model(seen, rows.columns)
    server = pyfunc_models.Server(loaded)
    try:
        direct: object = loaded.predict(rows.frame())
    except MlflowException:
        direct = REFUSED
    answer = server.infer(rows.request(server.metadata()))
    assert answer.status in (200, 400), answer.body
    v2 = answer.document["outputs"][0]["data"] if answer.status == 200 else REFUSED
    scored = server.invocations(rows.invocation())
    assert scored.status in (200, 400), scored.body
    invocations = scored.document["predictions"] if scored.status == 200 else REFUSED
    return Outcome(direct, v2, invocations, answer.document.get("error", ""))
