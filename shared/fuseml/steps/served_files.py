"""The files of a model as the serving of a predictor step needs them: their format, their place, and the model server that reads them."""

from __future__ import annotations

import os
import posixpath
import urllib.parse
from dataclasses import dataclass

from fuseml.steps import model_formats, model_layouts, sdk, tracking

AUTO = ("", "auto")
OWN = "fuseml-serving"
_FORMATS = ("mlflow", "sklearn", "xgboost", "lightgbm", "onnx", "tensorflow", "pytorch", "openvino", "triton")
_USUAL = {"onnx": "triton", "pytorch": "triton", "tensorflow": "tensorflow", "openvino": "openvino"}
"""Format -> the model server of the servings that fetch the files themselves. Others read the files as they are."""
_BEHIND = "mlflow-artifacts"


@dataclass(frozen=True)
class ServedFiles:
    """`server` is empty where the serving chooses; `location` is empty for FuseML's own serving, which loads models by their address."""

    format: str
    server: str = ""
    location: str = ""

    def fields(self) -> dict[str, object]:
        """The fields of an application that differ from their defaults."""
        given = {
            "format": self.format if self.format != model_formats.MLFLOW else "",
            "model_server": self.server,
            "location": self.location,
        }
        return {name: value for name, value in given.items() if value}


def of_step(model: str, name: str, serving: str) -> ServedFiles:
    """The files for the application `name`, from the step's inputs `format` and `predictor`. Raises StepError."""
    format, server = sdk.input("format", "auto"), sdk.input("predictor", "auto")
    if format not in ("auto", *_FORMATS):
        raise sdk.StepError(f"the input 'format' is '{format}': write auto, {', '.join(_FORMATS)}")
    found = _format(model) if format == "auto" else format
    server = "" if server in AUTO else server
    if server == "sklearn" and found == model_formats.MLFLOW:
        # The original copied the pickled model; MLServer reads the whole model, whatever its library saves by now.
        sdk.say("note: a model of MLflow is served as a whole: the predictor 'sklearn' is left to the serving")
        server = ""
    if serving == OWN:
        return ServedFiles(found, server)
    location = _location(model)
    server = server or _USUAL.get(found, "")
    if server in model_layouts.servers() and found != "triton":
        found, location = model_layouts.write(server, name, model, location)
    return ServedFiles(found, server, location)


def _format(model: str) -> str:
    """The format by the names of the files; that of MLflow where the address or a store that cannot be listed says no more."""
    if model.startswith(("models:/", "runs:/")):
        return model_formats.MLFLOW
    by_name = model_formats.of_files([posixpath.basename(urllib.parse.urlsplit(model).path)])
    return by_name or model_formats.of_files(_names(model)) or model_formats.MLFLOW


def _names(model: str) -> list[str]:
    """The paths of the files in the first two levels of a folder."""
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        store = get_artifact_repository(model)
        top = store.list_artifacts()
        return [item.path for folder in top if folder.is_dir for item in store.list_artifacts(folder.path)] + [item.path for item in top]
    except Exception as error:  # of MLflow and its stores
        sdk.say(f"note: the files of {model} cannot be listed here, and are taken for a model of MLflow: {type(error).__name__}: {error}")
        return []


def _location(model: str) -> str:
    """The place of the files in a store that other tools reach. Raises StepError for files that only the tracking server serves."""
    location = tracking.location(model, os.environ)
    if urllib.parse.urlsplit(location).scheme in ("", "file", _BEHIND, "models", "runs"):
        raise sdk.StepError(
            f"the files of {model} are at {location}, where the serving cannot fetch them: let the tracking server keep artifacts in a bucket "
            "(`mlflow server --no-serve-artifacts --default-artifact-root s3://BUCKET`), or let the selector for prediction-serving resolve to "
            "FuseML's own serving, which loads models from the tracking server"
        )
    return location
