"""Serves one MLflow model over HTTP: the Open Inference Protocol v2 and MLflow's own scoring protocol, on one port.

    python -m fuseml.steps.model_server --model models:/diabetes/3 --name diabetes --port 0

It loads the model before it listens, so a server that accepts connections is ready. Then it prints its only line on stdout, the JSON
`{"port": ..., "model": ...}`. SIGTERM lets requests in progress finish. The application is MLflow's own scoring server with more routes, on
uvicorn as in MLflow. Requests run in threads of one process: a loaded model must not be forked, because the thread pools of numerical
libraries do not survive it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import os
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml.steps import model_digest, sdk
from fuseml.steps.inference import errors, inputs, outputs, signature

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

_MAX_BODY = 32 * 1024 * 1024
_DRAINED = 4  # times the largest body
_GRACE = 30  # seconds for requests in progress after SIGTERM

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, object], Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with its public name and version."""

    name: str
    uri: str
    version: str
    model: PyFuncModel

    def fields(self) -> tuple[list[signature.Field], list[signature.Field]]:
        """The inputs and outputs of its signature; empty without one."""
        taken = self.model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        given = self.model.metadata.get_output_schema()  # type: ignore[no-untyped-call]
        return (
            signature.fields(taken.to_dict() if taken is not None else None, "input-0"),
            signature.fields(given.to_dict() if given is not None else None, "output-0"),
        )

    def metadata(self) -> dict[str, object]:
        """The model metadata response."""
        taken, given = self.fields()
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "mlflow",
            "inputs": [field.metadata() for field in taken],
            "outputs": [field.metadata() for field in given],
            "parameters": {"model_uri": self.uri},
        }

    def infer(self, body: bytes) -> dict[str, object]:
        """The response to an inference request. Raises RequestError and MlflowException for an invalid one."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise errors.RequestError(f"the body is not JSON: {error}") from None
        taken, given = self.fields()
        data = inputs.decode(request, taken)
        tensors = outputs.encode(self.model.predict(data, params=self._parameters(request)), given)
        answer: dict[str, object] = {"model_name": self.name, "model_version": self.version}
        if isinstance(request.get("id"), str):
            answer["id"] = request["id"]
        return {**answer, "outputs": outputs.selected(tensors, request.get("outputs"))}

    def _parameters(self, request: Mapping[str, object]) -> dict[str, object] | None:
        """The request's parameters that the signature declares; others may be for a proxy."""
        schema = self.model.metadata.get_params_schema()  # type: ignore[no-untyped-call]
        sent = request.get("parameters")
        if schema is None or not isinstance(sent, dict):
            return None
        return {parameter.name: sent[parameter.name] for parameter in schema.params if parameter.name in sent} or None


def main(arguments: list[str] | None = None) -> None:
    """Load the model, report the port, serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m fuseml.steps.model_server", description="Serve one MLflow model over HTTP.")
    parser.add_argument("--model", required=True, help="model URI, e.g. models:/diabetes/3; MLFLOW_TRACKING_URI is its server")
    parser.add_argument("--name", required=True, help="the model's name in /v2/models/<name>")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--max-body", type=int, default=_MAX_BODY, help="largest request body in bytes (default: %(default)s)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)  # uvicorn handles the signal while it serves, and raises it again afterwards
    # Out of the environment: the model's code must not use it.
    key, digest = (os.environ.pop(name, "") for name in ("FUSEML_MODEL_SERVER_KEY", "FUSEML_MODEL_DIGEST"))
    stdout = _reserve_stdout()
    loaded = load(options.model, options.name, digest)
    application = guarded(bounded(create_app(loaded), options.max_body), key)
    try:
        listener = socket.create_server((options.host, options.port), backlog=128)
    except OSError as error:
        raise sdk.StepError(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose another --port") from error
    os.write(stdout, json.dumps({"port": listener.getsockname()[1], "model": loaded.uri}).encode() + b"\n")
    _serve(application, listener)


def _end(*_: object) -> None:
    raise SystemExit(0)


def _reserve_stdout() -> int:
    """A descriptor of the real stdout. Other output, also of models and libraries, goes to stderr from now on."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    return stdout


def load(uri: str, name: str, digest: str = "") -> LoadedModel:
    """Load the model, if its files have the digest (`model_digest`); any files without one.

    Raises StepError with the reason; the traceback goes to stderr, because the cause is often in the model's code.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # with MLflow's default an unreachable server costs minutes
    try:
        import mlflow.artifacts
        import mlflow.pyfunc

        if not digest:
            return LoadedModel(name, uri, _version(uri), mlflow.pyfunc.load_model(uri))
        folder = mlflow.artifacts.download_artifacts(uri)
        # Checked before anything of it is loaded: loading runs the code in it.
        _check(uri, Path(folder), digest)
        return LoadedModel(name, uri, _version(uri), mlflow.pyfunc.load_model(folder))
    except sdk.StepError:
        raise
    except Exception as error:
        traceback.print_exc()
        hint = "; the runtime must contain the packages of the training" if isinstance(error, ImportError) else ""
        raise sdk.StepError(f"cannot load {uri}: {type(error).__name__}: {error}{hint}") from error


def _check(uri: str, folder: Path, digest: str) -> None:
    found = model_digest.of_folder(folder)
    if found != digest:
        raise sdk.StepError(
            f"the files of {uri} were changed: their digest is {found}, and {digest} was recorded when it was registered; "
            "restore them, or train the model again"
        )


def _version(uri: str) -> str:
    """The version of a model URI: of a registered model, of an alias, or the id of a logged model; `1` for any other URI."""
    kind, _, rest = uri.partition(":/")
    if kind != "models":
        return "1"
    model, _, alias = rest.partition("@")
    if alias:
        from mlflow.tracking import MlflowClient

        return str(MlflowClient().get_model_version_by_alias(model, alias).version)
    return rest.rpartition("/")[2]


def create_app(loaded: LoadedModel) -> Application:
    """MLflow's scoring application for the model, with the Open Inference Protocol's routes."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def refusal(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": " ".join(message.split())}, status)

    def unknown(request: Request) -> JSONResponse | None:
        name, version = request.path_params["name"], request.path_params.get("version", loaded.version)
        if (name, version) == (loaded.name, loaded.version):
            return None
        return refusal(404, f"no model '{name}' with version {version}; this server has '{loaded.name}' with version {loaded.version}")

    async def server(_: Request) -> JSONResponse:
        return JSONResponse({"name": "fuseml-model-server", "version": _mlflow_version(), "extensions": []})

    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> JSONResponse:
        return JSONResponse({"ready": True})

    async def metadata(request: Request) -> JSONResponse:
        return unknown(request) or JSONResponse(loaded.metadata())

    async def model_ready(request: Request) -> JSONResponse:
        return unknown(request) or JSONResponse({"name": loaded.name, "ready": True})

    async def infer(request: Request) -> JSONResponse:
        not_found = unknown(request)
        if not_found is not None:
            return not_found
        if "inference-header-content-length" in request.headers:
            return refusal(400, "binary tensor data is not supported; send the tensors as JSON")
        body = await request.body()
        try:
            return JSONResponse(await asyncio.to_thread(loaded.infer, body))
        except errors.RequestError as error:
            return refusal(400, str(error))
        except MlflowException as error:
            return refusal(400, error.message)  # `predict` raises it for data that violate the signature
        except Exception as error:  # a model's code may raise anything: the log gets the traceback
            traceback.print_exc()
            return refusal(500, f"the model failed: {type(error).__name__}: {error}")

    app: Starlette = scoring_server.init(loaded.model)  # type: ignore[no-untyped-call,unused-ignore]
    one = "/v2/models/{name}"

    async def other(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        return refusal(error.status_code, error.detail)

    app.add_exception_handler(HTTPException, other)
    app.router.routes += [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]
    for path in (one, one + "/versions/{version}"):
        app.router.routes += [
            Route(path, metadata),
            Route(path + "/ready", model_ready),
            Route(path + "/infer", infer, methods=["POST"]),
        ]
    return app


def _mlflow_version() -> str:
    from mlflow.version import VERSION

    return VERSION


def guarded(application: Application, key: str) -> Application:
    """The application for requests with the key in `X-FuseML-Key`; others get 401 before their body is read. Without a key, for all."""

    async def wrapped(scope: MutableMapping[str, object], receive: Receive, send: Send) -> None:
        headers = scope.get("headers")
        given = [value for name, value in headers if name == b"x-fuseml-key"] if isinstance(headers, Iterable) else []
        if not key or scope["type"] != "http" or (len(given) == 1 and hmac.compare_digest(given[0], key.encode())):
            await application(scope, receive, send)
            return
        await _refuse(send, 401, "this port is for the FuseML server only: use the address of the application")

    return wrapped


def bounded(application: Application, limit: int) -> Application:
    """The application with request bodies of at most `limit` bytes; a larger one gets 413 and does not reach the application."""

    async def wrapped(scope: MutableMapping[str, object], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        body, size, more = bytearray(), 0, True
        # A larger body is read up to a bound and dropped: a client that is cut off while it sends never reads the response.
        while more and size <= _DRAINED * limit:
            message = await receive()
            part = message.get("body", b"")
            if message["type"] != "http.request" or not isinstance(part, bytes):
                return  # the client has disconnected
            size += len(part)
            more = bool(message.get("more_body"))
            if size <= limit:
                body += part
        if size > limit:
            await _refuse(send, 413, f"the request body is larger than {limit} bytes")
            return
        replay = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def again() -> Message:
            read = next(replay, None)
            return read if read is not None else await receive()

        await application(scope, again, send)

    return wrapped


async def _refuse(send: Send, status: int, message: str) -> None:
    text = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _serve(application: Application, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(application, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE)
    with contextlib.closing(listener):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sdk.run(main)
