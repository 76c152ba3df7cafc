"""The tables of MLflow's types in docs/serving.md, made from requests to models; `task schema` writes them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy

from tests.component import agreement, pyfunc_models
from tests.tensors import tensor

with pyfunc_models.quiet():
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, SparkMLVector, TensorSpec

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"
SCALARS: dict[str, Any] = {
    "boolean": True,
    "integer": 3,
    "long": 3,
    "float": 0.5,
    "double": 0.5,
    "string": "Bonn",
    "binary": "aGk=",
    "datetime": "2026-01-31T12:30:00",
}
COLUMNS: list[tuple[Any, Any]] = [
    *SCALARS.items(),
    *((Array(name), [value]) for name, value in SCALARS.items()),
    (Array(Array("double")), [[0.5]]),
    (Object([Property("a", "long"), Property("b", "string", required=False)]), {"a": 3}),
    (Object([Property("a", "integer")]), {"a": 3}),
    (Map("long"), {"a": 3}),
    (Map("float"), {"a": 0.5}),
    (AnyType(), {"a": [3]}),  # type: ignore[no-untyped-call]
    (SparkMLVector(), [0.5]),  # type: ignore[no-untyped-call]
]
TENSORS: dict[str, Any] = {
    "bool": True,
    "int8": 3,
    "int64": 3,
    "uint64": 3,
    "float16": 0.5,
    "float32": 0.5,
    "float64": 0.5,
    "str": "Bonn",
    "object": "Bonn",
    "bytes": "aGk=",
    "datetime64[ns]": "2026-01-31T12:30:00",
}


def columns() -> str:
    """The table of column types."""
    rows = []
    for kind, value in COLUMNS:
        column = ColSpec(kind, "c", required=False)
        described = pyfunc_models.Server(pyfunc_models.model(agreement.seen, [column])).metadata()["inputs"][0]
        alone, null = (agreement.outcomes(agreement.Rows([column], [values])) for values in ([value], [value, None]))
        for outcome in (alone, null):
            assert outcome.v2 == outcome.direct, (kind, outcome)
        sent = json.dumps(value) if described["datatype"] == "BYTES" and not isinstance(value, str) else value
        rows.append(
            [
                described.get("parameters", {}).get("mlflow_type", kind),
                _form(described),
                f"`{json.dumps(sent)}`",
                "refused" if null.v2 == agreement.REFUSED else "kept",
                _compared(alone, null),
                _returned(column, [value]),
            ]
        )
    return _table(["MLflow's type", "tensor", "value", "null", "`/invocations`", "as an output"], rows)


def tensors() -> str:
    """The table of element types of tensors."""
    rows = []
    for dtype, value in TENSORS.items():
        server = pyfunc_models.Server(pyfunc_models.model(lambda data: data, [TensorSpec(numpy.dtype(dtype), (-1,))]))
        described = server.metadata()["inputs"][0]
        answer = server.infer({"inputs": [tensor("x", described["datatype"], [value])]})
        assert answer.status == 200, answer.body
        [output] = answer.document["outputs"]
        assert output["data"] == [value], (dtype, output)
        rows.append([dtype, _form(described), f"`{json.dumps(value)}`", _form(output)])
    return _table(["element type", "tensor", "value", "as an output"], rows)


def _form(described: dict[str, Any]) -> str:
    """Datatype and content type: `BYTES` base64."""
    return f"`{described['datatype']}` {described.get('parameters', {}).get('content_type', '')}".strip()


def _compared(alone: agreement.Outcome, null: agreement.Outcome) -> str:
    """How `/invocations` differs from the model in Python: for a value, and else for null."""
    if alone.invocations != alone.direct:
        return "refused" if alone.invocations == agreement.REFUSED else "another value"
    if null.invocations != null.direct:
        return "null refused" if null.invocations == agreement.REFUSED else "null changed"
    return "the same"


def _returned(column: ColSpec, values: Sequence[Any]) -> str:
    """The tensor of a model that returns its input."""
    server = pyfunc_models.Server(pyfunc_models.model(lambda data: data, [column]))
    answer = server.infer(agreement.Rows([column], [values]).request(server.metadata()))
    assert answer.status == 200, answer.body
    [output] = answer.document["outputs"]
    found = [json.loads(text) for text in output["data"]] if output.get("parameters", {}).get("content_type") == "json" else output["data"]
    assert found == values, (column, output)
    return _form(output)


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.name if isinstance(cell, DataType) else str(cell) for cell in line) + " |" for line in lines)


TABLES = {"columns": columns, "tensors": tensors}


def written(text: str) -> str:
    """The text of the page with the tables of today."""
    for name, table in TABLES.items():
        block = f"<!-- {name}: written by task schema -->\n{table()}\n<!-- end -->"
        before, mark, rest = text.partition(f"<!-- {name}: ")
        text = before + block + rest.partition("<!-- end -->")[2] if mark else text
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
