"""Models for scoring: loaded from their address, and their predictions as columns."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas

from fuseml.steps import loaded_model, loading, sdk, tracking

_SHOWN = 100  # characters of a name in a message
_ADDRESS = re.compile(r"model://[^/]+/(?P<name>.+)/(?P<version>[^/]+)")


def uri_of(model: str) -> str:
    """MLflow's URI of a model: a URI as it is, and that of an artifact `model://PROJECT/NAME/VERSION`."""
    match = _ADDRESS.fullmatch(model)
    return f"models:/{match['name']}/{match['version']}" if match else model


def load(uri: str, digest: str = "") -> Any:
    """The model as `mlflow.pyfunc` loads it, after a check of its files: against `digest`, else against the one it was registered with.

    Raises StepError.
    """
    if not digest:
        try:
            digest = tracking.digest_of(uri, os.environ)
        except sdk.HttpError as error:
            sdk.say(f"note: the digest of {uri} is not known here: {error}")
    with loading.uncollected():
        return loaded_model.load(uri, "model", digest).model


def schema_of(model: Any) -> Sequence[Mapping[str, Any]] | None:
    """The input schema of a loaded model, in MLflow's form; None without a signature."""
    schema = model.metadata.get_input_schema()
    return schema.to_dict() if schema is not None else None


def predict(model: Any, inputs: pandas.DataFrame | numpy.ndarray, index: pandas.Index, name: str) -> pandas.DataFrame:
    """The predictions for the rows numbered by `index`: a column `name`, or one for each output of the model.

    Raises StepError for a failure of the model, and for another number of predictions than rows.
    """
    rows = f"the rows {index[0]} to {index[-1]}"
    try:
        predicted = model.predict(inputs)
    except Exception as error:  # a model's code may raise anything
        traceback.print_exc()
        raise sdk.StepError(f"the model failed on {rows}: {type(error).__name__}: {error}") from error
    columns = dict(_columns(predicted, name))
    counts = {len(values) for values in columns.values()}
    if counts != {len(index)}:
        raise sdk.StepError(f"the model gave {' and '.join(map(str, sorted(counts)))} predictions for {rows}, which are {len(index)}")
    return pandas.DataFrame({column: _unaligned(values) for column, values in columns.items()}, index=index)


def _unaligned(values: Any) -> Any:
    """A column without an index of its own, which pandas would align."""
    return values.to_numpy() if isinstance(values, pandas.Series) else values


def _columns(predicted: Any, name: str) -> list[tuple[str, Any]]:
    """The columns of a prediction by name. Raises StepError for names that are alike, and for a single value."""
    if isinstance(predicted, (pandas.DataFrame, Mapping)):
        if isinstance(predicted, pandas.DataFrame):
            named = [(str(column), predicted.iloc[:, index]) for index, column in enumerate(predicted)]
        else:
            named = [(str(column), list(values)) for column, values in predicted.items()]
        names = [column for column, _ in named]
        repeated = next((column for column in names if names.count(column) > 1), None)
        if repeated is not None:
            raise sdk.StepError(f"the model predicts two columns {repeated[:_SHOWN]!r}: name each differently")
        return named
    if isinstance(predicted, pandas.Series):
        return [(name, predicted)]
    values = predicted.toarray() if hasattr(predicted, "toarray") else predicted
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) == 0:
        raise sdk.StepError(f"the model predicts one value of the type {type(values).__name__}, and a value for each row is needed")
    if isinstance(values, numpy.ndarray) and values.ndim == 2:
        if values.shape[1] == 1:
            return [(name, values[:, 0])]
        return [(f"{name}_{number}", values[:, number]) for number in range(values.shape[1])]
    return [(name, values if isinstance(values, numpy.ndarray) and values.ndim == 1 else list(values))]
