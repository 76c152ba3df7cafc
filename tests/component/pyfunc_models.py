"""MLflow models in this process: pyfunc models with any signature, and the model server's application without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fuseml.steps import model_server
from fuseml.steps.inference import service


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of MLflow's own imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


with quiet():
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.pyfunc import PyFuncModel, scoring_server  # noqa: F401
    from mlflow.types.schema import ColSpec, ParamSchema, Schema, TensorSpec

Specs = Sequence[ColSpec | TensorSpec]


class _Implementation:
    def __init__(self, predict: Callable[..., object], raw: object) -> None:
        self.predict, self._raw = predict, raw

    def get_raw_model(self) -> object:
        return self._raw


def model(
    predict: Callable[..., object],
    inputs: Specs | None = None,
    outputs: Specs | None = None,
    params: ParamSchema | None = None,
    raw: object = None,
) -> PyFuncModel:
    """A loaded model whose code is `predict`, with MLflow's own enforcement of the signature; `raw` is the model of the framework."""
    signature = None
    if inputs is not None:
        signature = ModelSignature(Schema(list(inputs)), Schema(list(outputs)) if outputs else None, params)  # type: ignore[arg-type,unused-ignore]
    meta = Model(signature=signature, flavors={"python_function": {"loader_module": "tests"}})
    return PyFuncModel(meta, _Implementation(predict, raw))


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Server:
    """The application of a model server for a model."""

    def __init__(self, loaded: PyFuncModel, batching: service.Batching | None = None, name: str = "m") -> None:
        self.served = service.Service(name, "1", "models:/m/1", loaded, batching)
        self._app = model_server.create_app(self.served)
        self._path = f"/v2/models/{name}"

    def get(self, path: str) -> Answer:
        return run(self.call("GET", path))

    def metadata(self) -> Any:
        return self.get(self._path).document

    def infer(self, document: object, **headers: str) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return run(self.call("POST", f"{self._path}/infer", body, {"content-type": "application/json", **headers}))

    def infer_together(self, documents: Sequence[object]) -> list[Answer]:
        """The responses to requests that arrive at the same time."""

        async def all_of_them() -> list[Answer]:
            bodies = [json.dumps(document).encode() for document in documents]
            return await asyncio.gather(*(self.call("POST", f"{self._path}/infer", body) for body in bodies))

        return run(all_of_them())

    def invocations(self, document: object) -> Answer:
        """MLflow's own scoring protocol."""
        return run(self.call("POST", "/invocations", json.dumps(document).encode(), {"content-type": "application/json"}))

    async def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            message = next(received, None)
            return message if message is not None else await asyncio.Event().wait()  # the client stays connected

        async def send(message: Any) -> None:
            sent.append(message)

        encoded = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in (headers or {}).items()]
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": encoded,
            "scheme": "http",
            "server": ("m", 80),
            "client": ("c", 1),
            "root_path": "",
            "asgi": {"version": "3.0"},
        }
        await self._app(scope, receive, send)
        found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


Result = TypeVar("Result")
_LOOP = asyncio.new_event_loop()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return _LOOP.run_until_complete(work)
