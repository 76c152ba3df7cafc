"""A model of a tracking server, loaded to be served."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fuseml.steps import model_digest, onnx_model, sdk

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

_Result = TypeVar("_Result")
_PAUSE = 1.0  # seconds between two attempts


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with its public name and version."""

    name: str
    uri: str
    version: str
    model: PyFuncModel


def load(uri: str, name: str, digest: str = "", patience: float = 0.0, format: str = "mlflow") -> LoadedModel:
    """Load the model, if its files have the digest (`model_digest`); any files without one. `format` is mlflow or onnx.

    While the tracking server or its store cannot be reached, it is tried again for `patience` seconds: it may be starting. Raises StepError
    with the reason; the traceback goes to stderr, because the cause is often in the model's code.
    """
    return _patiently(uri, patience, lambda: _loaded(uri, name, digest, format))


def fetch(uri: str, digest: str = "", patience: float = 0.0) -> Path:
    """The folder or file with the model's files, for another program that loads them. Checks and raises as `load`."""
    return _patiently(uri, patience, lambda: _fetched(uri, digest))


def version(uri: str) -> str:
    """The version of a model URI: of a registered model, of an alias, or the id of a logged model; `1` for any other URI."""
    kind, _, rest = uri.partition(":/")
    if kind != "models":
        return "1"
    model, _, alias = rest.partition("@")
    if alias:
        from mlflow.tracking import MlflowClient

        return str(MlflowClient().get_model_version_by_alias(model, alias).version)
    return rest.rpartition("/")[2]


def _patiently(uri: str, patience: float, attempt: Callable[[], _Result]) -> _Result:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # with MLflow's default an unreachable server costs minutes
    end = time.monotonic() + patience
    while True:
        try:
            return attempt()
        except sdk.StepError:
            raise
        except Exception as error:
            if not _is_unreachable(error) or time.monotonic() >= end:
                traceback.print_exc()
                raise sdk.StepError(f"cannot load {uri}: {type(error).__name__}: {error}{_hint(error)}") from error
            sys.stderr.write(f"{uri} is not reachable yet and is tried again: {error}\n")
        time.sleep(_PAUSE)


def _hint(error: Exception) -> str:
    """Advice where the code of the model is not in its environment."""
    if isinstance(error, ImportError):
        return "; the runtime must contain the packages of the training, and the model its own modules: log it with code_paths=[...]"
    if isinstance(error, AttributeError) and "attribute" in str(error):
        return "; a class or function of the model is not in its runtime: define it in a module, and log the model with code_paths=[...]"
    return ""


def _loaded(uri: str, name: str, digest: str, format: str) -> LoadedModel:
    import mlflow.pyfunc

    # Checked before anything of it is loaded: loading runs the code in it.
    place = str(_fetched(uri, digest)) if digest or format == "onnx" else uri
    if format == "onnx":
        place = onnx_model.as_mlflow(Path(place))
    return LoadedModel(name, uri, version(uri), mlflow.pyfunc.load_model(place))


def _fetched(uri: str, digest: str) -> Path:
    import mlflow.artifacts

    place = Path(mlflow.artifacts.download_artifacts(uri))
    if digest:
        _check(uri, place, digest)
    return place


def _is_unreachable(error: BaseException) -> bool:
    """Whether a connection that was refused, lost or timed out has caused the error, or a server that is not ready (503 and the like).

    A certificate that is not valid stays so.
    """
    import ssl

    import urllib3.exceptions as http

    unreachable = (ConnectionError, TimeoutError, http.MaxRetryError, http.ProtocolError, http.TimeoutError)
    refused = (ssl.SSLError, http.SSLError)
    causes = list(_chain(error))
    return any(isinstance(cause, unreachable) for cause in causes) and not any(isinstance(cause, refused) for cause in causes)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while they were handled."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _check(uri: str, folder: Path, digest: str) -> None:
    found = model_digest.of_folder(folder)
    if found != digest:
        raise sdk.StepError(
            f"the files of {uri} were changed: their digest is {found}, and {digest} was recorded when it was registered; "
            "restore them, or train the model again"
        )
