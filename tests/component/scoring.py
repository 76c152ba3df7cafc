"""Small models of scikit-learn in folders, and steps that score and evaluate them: in this process, because the import of MLflow takes seconds."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.steps import evaluator, scorer

from . import steps

ROWS = [(index / 4, index % 3) for index in range(40)]
_MODULES = {"scorer": scorer, "evaluator": evaluator}


@dataclass(frozen=True)
class Models:
    """A regression of y = 2a + 3b + 1, its version with a bias of 10, and a classifier of a + b > 5 as `yes` and `no`, and one that also knows
    `maybe`, for a + b from 4 to 7."""

    exact: Any
    regression: Path
    biased: Path
    classifier: Path
    unsure: Path
    forest: Path


def save(folder: Path) -> Models:
    """Train and save the models."""
    with warnings.catch_warnings():
        # Of MLflow about itself, when it is imported.
        warnings.simplefilter("ignore")
        return _saved(folder)


def _saved(folder: Path) -> Models:
    import mlflow.pyfunc
    import mlflow.sklearn
    import numpy
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression, LogisticRegression

    frame = pandas.DataFrame(ROWS, columns=["a", "b"]).astype({"a": "float64", "b": "int64"})
    y = 2 * frame["a"] + 3 * frame["b"] + 1
    exact, biased = LinearRegression().fit(frame, y), LinearRegression().fit(frame, y + 10)
    labels = numpy.where(frame["a"] + frame["b"] > 5, "yes", "no")
    trained = {
        "regression": exact,
        "biased": biased,
        "classifier": LogisticRegression().fit(frame, labels),
        "unsure": LogisticRegression().fit(frame, numpy.where((frame["a"] + frame["b"]).between(4, 7), "maybe", labels)),
        "forest": RandomForestRegressor(n_estimators=2, random_state=0).fit(frame, y),
    }
    inputs = Schema([ColSpec("double", "a"), ColSpec("long", "b")])
    for name, model in trained.items():
        signature = ModelSignature(inputs, Schema([ColSpec("string" if name in ("classifier", "unsure") else "double")]))
        mlflow.sklearn.save_model(
            model,
            str(folder / name),
            signature=signature,
            pip_requirements=[],
            serialization_format="cloudpickle",
        )
    return Models(exact, **{name: folder / name for name in trained})


@contextmanager
def _environment(variables: dict[str, str], folder: Path) -> Iterator[None]:
    before, place, handler = dict(os.environ), Path.cwd(), signal.getsignal(signal.SIGTERM)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(place)
        signal.signal(signal.SIGTERM, handler)


def run(module: str, folder: Path, capsys: pytest.CaptureFixture[str], **inputs: str) -> steps.CompletedStep:
    """Run the step in `folder`; `on_error` is its input `on-error`, a name in capitals a variable."""
    results = steps.results_of(folder)
    shutil.rmtree(results, ignore_errors=True)
    variables = {name if name.isupper() else f"FUSEML_{name.upper()}": value for name, value in inputs.items()}
    capsys.readouterr()
    code = 0
    with _environment(steps.environment(folder, variables), folder):
        try:
            _MODULES[module].sdk.run(_MODULES[module].main)
        except SystemExit as end:
            code = int(end.code or 0)
    captured = capsys.readouterr()
    outputs = {file.name: file.read_text() for file in results.iterdir()} if results.exists() else {}
    return steps.CompletedStep(code, captured.out, captured.err, outputs)
