"""Inference with one MLflow model: its metadata, and responses to requests."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fuseml.steps.inference import batches, errors, inputs, messages, outputs, signature

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

Result = TypeVar("Result")
SERVER, PLATFORM = "fuseml-model-server", "mlflow"
EXTENSIONS = ("binary_tensor_data",)
# Models of these flavors take data frames, never a mapping of arrays.
_TABULAR = frozenset({"sklearn", "xgboost", "lightgbm", "catboost", "statsmodels", "pmdarima", "prophet", "h2o", "spark"})
_LONGEST = 1500  # characters of a message of MLflow or of a model: the advice after it fits into the line
_UNSIGNED = (
    "; the model has no signature: send one tensor of shape [rows, columns], or one tensor for each column "
    'and "parameters": {"content_type": "pd"} in the request'
)


@dataclass(frozen=True)
class Batching:
    """Requests of at most `size` rows are joined; the first one waits at most `wait` seconds for others."""

    size: int
    wait: float


class Service:
    """A model with its public name and version. `uri` is the address that it was loaded from."""

    def __init__(self, name: str, version: str, uri: str, model: PyFuncModel, batching: Batching | None = None) -> None:
        self.name, self.version, self.uri = name, version, uri
        self.model = model
        # The signature is read once: it costs as much as a prediction.
        self.inputs, self.outputs = _fields(model)
        schema = getattr(model.metadata, "get_params_schema", lambda: None)()  # not in the oldest MLflow 2
        self._parameters = [parameter.name for parameter in schema.params] if schema is not None else []
        self._tabular = not _TABULAR.isdisjoint(getattr(model.metadata, "flavors", None) or {})
        self._batcher = batches.Batcher(self._predict, batching.size, batching.wait) if batching is not None else None

    def has(self, name: str, version: str) -> bool:
        """Whether it is the model of this name and version; an empty version is any."""
        return name == self.name and version in ("", self.version)

    def absent(self, name: str, version: str) -> str:
        """The message for a request for another model or version."""
        return f"no model '{name}' with version {version or 'of any name'}; this server has '{self.name}' with version {self.version}"

    def metadata(self) -> dict[str, object]:
        """The model metadata response."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [field.metadata() for field in self.inputs],
            "outputs": [field.metadata() for field in self.outputs],
            "parameters": {"model_uri": self.uri},
        }

    async def infer_body(self, body: bytes, header_length: str | None) -> tuple[bytes, int | None]:
        """The HTTP body for an HTTP body, and the length of its JSON if binary data follow (`messages.read`, `messages.write`).

        Raises RequestError. Requests run in threads.
        """
        if self._batcher is None:
            return await _in_thread(self._answer_body, body, header_length)
        request, data, parameters = await _in_thread(self._prepare_body, body, header_length)
        # No thread waits meanwhile: a batch may be larger than the number of threads.
        prediction = await asyncio.wrap_future(self._batcher.submit(data, parameters))
        return await _in_thread(self._write, request, prediction)

    def infer(self, request: messages.Request) -> messages.Response:
        """The response to a request. Raises RequestError."""
        data, parameters = self.prepare(request)
        if self._batcher is None:
            return self._respond(request, self._predict(data, parameters))
        return self._respond(request, self._batcher.submit(data, parameters).result())

    def _answer_body(self, body: bytes, header_length: str | None) -> tuple[bytes, int | None]:
        request, data, parameters = self._prepare_body(body, header_length)
        return self._write(request, self._predict(data, parameters))

    def _prepare_body(self, body: bytes, header_length: str | None) -> tuple[messages.Request, object, Mapping[str, object] | None]:
        request = messages.read(body, header_length)
        return (request, *self.prepare(request))

    def prepare(self, request: messages.Request) -> tuple[object, Mapping[str, object] | None]:
        """The input of the model, and the request's parameters that the signature declares; others may be for a proxy. Raises RequestError."""
        content_type = "" if self.inputs else inputs.content_type(request.parameters, self._tabular, len(request.tensors))
        declared = {name: request.parameters[name] for name in self._parameters if name in request.parameters}
        return inputs.decode(request.tensors, self.inputs, content_type), declared or None

    def _predict(self, data: object, parameters: Mapping[str, object] | None) -> object:
        try:
            return self.model.predict(data) if parameters is None else self.model.predict(data, params=dict(parameters))
        except Exception as error:  # a model's code may raise anything
            raise self.failure(error) from error

    def failure(self, error: Exception) -> errors.RequestError:
        """The error of a request whose data make the model's code raise `error`, which is being handled: the log gets its traceback."""
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException):  # the data violate the signature
            return errors.RequestError(str(error.message).rpartition("'. Error: ")[2][:_LONGEST])
        traceback.print_exc()
        hint = "" if self.inputs else _UNSIGNED
        return errors.RequestError(f"the model failed: {type(error).__name__}: {str(error)[:_LONGEST]}{hint}")

    def _respond(self, request: messages.Request, prediction: object) -> messages.Response:
        try:
            encoded = outputs.selected(outputs.encode(prediction, self.outputs), [output.name for output in request.outputs])
        except RecursionError:
            raise errors.RequestError("the prediction is nested too deeply for JSON") from None
        return messages.Response(self.name, self.version, encoded, request.id)

    def _write(self, request: messages.Request, prediction: object) -> tuple[bytes, int | None]:
        return messages.write(self._respond(request, prediction), request)


def _fields(model: PyFuncModel) -> tuple[Sequence[signature.Field], Sequence[signature.Field]]:
    """The inputs and outputs of a model's signature; empty without one."""
    taken = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
    given = model.metadata.get_output_schema()  # type: ignore[no-untyped-call]
    return (
        signature.fields(taken.to_dict() if taken is not None else None, "input-0"),
        signature.fields(given.to_dict() if given is not None else None, "output-0"),
    )


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """`asyncio.to_thread`, which Python 3.8 has not."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(context.run, function, *arguments))
