"""Serves one model of MLflow or ONNX over HTTP: the Open Inference Protocol v2 and MLflow's own scoring protocol, on one port.

    python -m fuseml.steps.model_server --model models:/diabetes/3 --name diabetes --port 0

It loads the model before it listens, so a server that accepts connections is ready. Then it prints its only line on stdout, the JSON
`{"port": ..., "model": ...}`, with `grpc_port` if it serves gRPC too (`--grpc-port`). SIGTERM lets requests in progress finish. The
application is MLflow's own scoring server with more routes, on uvicorn as in MLflow. Requests run in threads of one process: a loaded model
must not be forked, because the thread pools of numerical libraries do not survive it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hmac
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING

from fuseml.steps import explanation, invocations, loaded_model, loading, needs, sdk
from fuseml.steps.inference import service

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    from fuseml.steps.inference import rpc

    Message = MutableMapping[str, object]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[MutableMapping[str, object], Receive, Send], Awaitable[None]]

_MAX_BODY = 32 * 1024 * 1024
_DRAINED = 4  # times the largest body
_LONGEST_WAIT = 60_000  # milliseconds
_GRACE = 30  # seconds for requests in progress after SIGTERM


def main(arguments: list[str] | None = None) -> None:
    """Load the model, report the port, serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m fuseml.steps.model_server", description="Serve one model over HTTP.")
    parser.add_argument("--model", required=True, help="model URI, e.g. models:/diabetes/3; MLFLOW_TRACKING_URI is its server")
    parser.add_argument("--name", required=True, help="the model's name in /v2/models/<name>")
    parser.add_argument("--format", default="mlflow", choices=("mlflow", "onnx"), help="the format of its files (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--max-body", type=int, default=_MAX_BODY, help="largest request body in bytes (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, help="port for gRPC, which needs grpcio; 0 takes a free one (default: no gRPC)")
    size, wait = os.environ.get("FUSEML_BATCH_SIZE", "1"), os.environ.get("FUSEML_BATCH_WAIT", "5")
    parser.add_argument(
        "--batch-size", type=int, default=size, help="rows of concurrent v2 requests that are predicted together (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-wait", type=float, default=wait, help="milliseconds that a request waits for others (default: %(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds in which an unreachable tracking server is tried again (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.batch_size < 1 or not 0 <= options.batch_wait <= _LONGEST_WAIT:
        parser.error(f"--batch-size must be at least 1, --batch-wait between 0 and {_LONGEST_WAIT}")
    batching = service.Batching(options.batch_size, options.batch_wait / 1000) if options.batch_size > 1 else None
    needs.add_server_packages()
    signal.signal(signal.SIGTERM, _end)  # uvicorn handles the signal while it serves, and raises it again afterwards
    # Out of the environment: the model's code must not use it.
    key, digest = (os.environ.pop(name, "") for name in ("FUSEML_MODEL_SERVER_KEY", "FUSEML_MODEL_DIGEST"))
    stdout = _reserve_stdout()
    with loading.kept():
        loaded = loaded_model.load(options.model, options.name, digest, options.patience, options.format)
        served = service.Service(loaded.name, loaded.version, loaded.uri, loaded.model, batching)
        application = guarded(bounded(create_app(served), options.max_body), key)
    listener = listen(options.host, options.port)
    report = {"port": listener.getsockname()[1], "model": loaded.uri}
    with contextlib.ExitStack() as ending:
        if options.grpc_port is not None:
            calls = _grpc(served, options, key)
            ending.callback(calls.stop, _GRACE)
            report["grpc_port"] = calls.port
        os.write(stdout, json.dumps(report).encode() + b"\n")
        _serve(application, listener)


def listen(host: str, port: int) -> socket.socket:
    """A listener whose connections send what they have at once. Raises StepError for an address that is taken or unknown."""
    try:
        listener = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise sdk.StepError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    # Head and body of a response are two writes. The second one would wait for the client's delayed acknowledgement, 40 ms. asyncio sets
    # the option on sockets with a protocol number only, which those of `create_server` have not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _grpc(served: service.Service, options: argparse.Namespace, key: str) -> rpc.Server:
    from fuseml.steps.inference import rpc

    try:
        return rpc.Server(served, _mlflow_version(), (options.host, options.grpc_port), key, options.max_body)
    except ImportError as error:
        raise sdk.StepError(f"--grpc-port needs grpcio in the environment of the model server: {error}; install it") from error
    except OSError as error:
        raise sdk.StepError(f"cannot listen for gRPC on {options.host}:{options.grpc_port}: {error}; choose another --grpc-port") from error


def _end(*_: object) -> None:
    raise SystemExit(0)


def _reserve_stdout() -> int:
    """A descriptor of the real stdout. Other output, also of models and libraries, goes to stderr from now on."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    return stdout


def create_app(served: service.Service) -> Application:
    """MLflow's scoring application for the model, with the Open Inference Protocol's routes."""
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    from fuseml.steps.inference import routes

    async def other(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        return routes.refusal(error.status_code, error.detail)

    app = invocations.application(served.model)
    app.add_exception_handler(HTTPException, other)
    app.router.routes += routes.of(served, _mlflow_version())
    explained = explanation.endpoint(served, functools.partial(routes.unknown, served), routes.refusal)
    app.router.routes += [Route(path + "/explain", explained, methods=["POST"]) for path in routes.MODEL]
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
