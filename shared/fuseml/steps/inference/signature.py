"""Inputs and outputs of a model, from MLflow's signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from fuseml.steps.inference import tensors

# MLflow's column types; those without numbers travel as text.
_COLUMN_DATATYPES = {"boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}


@dataclass(frozen=True)
class Field:
    """A named input or output of a model. `dims` has -1 for any size; `column` is MLflow's column type, empty for tensors."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    column: str = ""
    required: bool = True

    def metadata(self) -> dict[str, object]:
        """The field in a model metadata response."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.dims)}


def fields(schema: Sequence[Mapping[str, object]] | None, unnamed: str) -> list[Field]:
    """The fields of one side of a signature, in MLflow's form (`Schema.to_dict()`); `unnamed` is the name of a field without one."""
    named = []
    for index, item in enumerate(schema or ()):
        name = str(item.get("name") or (unnamed if index == 0 else f"{unnamed}-{index}"))
        spec = item.get("tensor-spec")
        if isinstance(spec, Mapping):
            named.append(Field(name, tensors.datatype(numpy.dtype(str(spec["dtype"]))), tuple(spec["shape"])))
        else:
            column = str(item["type"])
            named.append(Field(name, _COLUMN_DATATYPES.get(column, "BYTES"), (-1,), column, bool(item.get("required", True))))
    return named
