"""The gRPC service of the protocol (`GRPCInferenceService`). It needs grpcio, the extra `grpc`."""

from __future__ import annotations

import hmac
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy

from fuseml.steps.inference import binary, descriptors, errors, messages, service, tensors

_SERVICE = "inference.GRPCInferenceService"
_THREADS = 32
_CONTENTS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Server:
    """Serves one model over gRPC on the address `host:port`, and on a free port if `port` is 0, from its construction on.

    `version` is that of the server. Only calls with `key` in their metadata `x-fuseml-key` are answered; an empty key is none. Messages have
    at most `limit` bytes. Raises ImportError without grpcio, and OSError if the address is in use.
    """

    def __init__(self, served: service.Service, version: str, address: tuple[str, int], key: str = "", limit: int = -1) -> None:
        import grpc

        self._grpc, self._served, self._version, self._key = grpc, served, version, key
        self._classes = descriptors.classes()
        calls: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: self._classes["ServerLiveResponse"](live=True),
            "ServerReady": lambda _: self._classes["ServerReadyResponse"](ready=True),
            "ServerMetadata": self._server_metadata,
            "ModelReady": lambda _: self._classes["ModelReadyResponse"](ready=True),
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(call),
                request_deserializer=self._classes[f"{name}Request"].FromString,
                response_serializer=self._classes[f"{name}Response"].SerializeToString,
            )
            for name, call in calls.items()
        }
        # Without SO_REUSEPORT a port in use is an error, not shared.
        options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(_THREADS, "grpc"), options=options)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        try:
            self.port = self._server.add_insecure_port(f"{address[0]}:{address[1]}")
        except RuntimeError as error:
            raise OSError(f"the address {address[0]}:{address[1]} cannot be used") from error
        self._server.start()

    def stop(self, grace: float) -> None:
        """Refuse new calls, and return after those in progress, at most `grace` seconds later."""
        self._server.stop(grace).wait()

    def _answering(self, call: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        code = self._grpc.StatusCode

        def answer(request: Any, context: Any) -> Any:
            given = [value for name, value in context.invocation_metadata() if name == "x-fuseml-key"]
            if self._key and not (len(given) == 1 and hmac.compare_digest(str(given[0]).encode(), self._key.encode())):
                context.abort(code.UNAUTHENTICATED, "this port is for the FuseML server only: use the address of the application")
            names = [getattr(request, field) for field in ("model_name", "model_version", "name", "version") if hasattr(request, field)]
            if names and not self._served.has(*names):
                context.abort(code.NOT_FOUND, errors.line(self._served.absent(*names)))
            try:
                return call(request)
            except errors.RequestError as error:
                found, message = code.INVALID_ARGUMENT, str(error)
            except Exception as error:  # a fault of this server: the log gets the traceback
                traceback.print_exc()
                found, message = code.INTERNAL, f"a fault of the model server: {type(error).__name__}: {error}"
            return context.abort(found, errors.line(message))

        return answer

    def _server_metadata(self, _: Any) -> Any:
        return self._classes["ServerMetadataResponse"](name=service.SERVER, version=self._version, extensions=service.EXTENSIONS)

    def _model_metadata(self, _: Any) -> Any:
        described = self._classes["ModelMetadataResponse"](
            name=self._served.name, versions=[self._served.version], platform=service.PLATFORM
        )
        for side, fields in ((described.inputs, self._served.inputs), (described.outputs, self._served.outputs)):
            for field in fields:
                side.add(name=field.name, datatype=field.datatype, shape=field.dims)
        described.properties["model_uri"] = self._served.uri
        return described

    def _infer(self, request: Any) -> Any:
        response = self._served.infer(_read(request))
        # FP16 has no field of its own.
        raw = bool(request.raw_input_contents) or any(tensor.datatype not in _CONTENTS for tensor in response.tensors)
        written = self._classes["ModelInferResponse"](model_name=response.model, model_version=response.version, id=response.id or "")
        for tensor in response.tensors:
            output = written.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            for name, value in messages.described(tensor, raw=True).items():
                output.parameters[name].string_param = str(value)
            if raw:
                written.raw_output_contents.append(messages.pack(tensor))
            else:
                getattr(output.contents, _CONTENTS[tensor.datatype]).extend(_values(tensor))
        return written


def _read(request: Any) -> messages.Request:
    raw = request.raw_input_contents
    if not request.inputs:
        raise errors.RequestError("inputs: the request has no tensors")
    if raw and len(raw) != len(request.inputs):
        raise errors.RequestError(f"raw_input_contents: has {len(raw)} elements for {len(request.inputs)} inputs")
    parameters = _parameters(request.parameters)
    asked = [messages.Output(output.name) for output in request.outputs]
    sent = [_tensor(item, f"inputs[{index}]", raw[index] if raw else None) for index, item in enumerate(request.inputs)]
    return messages.Request(messages.unique(sent), parameters, asked, request.id or None)


def _tensor(item: Any, where: str, raw: bytes | None) -> tensors.Tensor:
    described = {"name": item.name, "datatype": item.datatype, "shape": list(item.shape), "parameters": _parameters(item.parameters)}
    if raw is not None:
        if item.HasField("contents"):
            raise errors.RequestError(f"{where}.contents: must be left out if the request has raw_input_contents")
        return tensors.read(described, where, raw)
    return tensors.read(described, where, array=_contents(item, where))


def _contents(item: Any, where: str) -> numpy.ndarray:
    if item.datatype not in tensors.DATATYPES:
        raise errors.RequestError(f"{where}.datatype: must be one of {', '.join(tensors.DATATYPES)}")
    field = _CONTENTS.get(item.datatype)
    if field is None:
        raise errors.RequestError(f"{where}.datatype: {item.datatype} has no contents; send raw_input_contents")
    values = getattr(item.contents, field)
    if item.datatype == "BYTES":
        return binary.of_objects(list(values))
    dtype = numpy.dtype(tensors.DATATYPES[item.datatype])
    array = numpy.array(values, "int64" if field == "int_contents" else "uint64" if field == "uint_contents" else dtype)
    return tensors.integers(array, dtype, f"{where}.contents", item.datatype) if dtype.kind in "iu" else array


def _values(tensor: tensors.Tensor) -> Sequence[object]:
    values = tensor.array.ravel().tolist()
    return [binary.as_bytes(value) for value in values] if tensor.datatype == "BYTES" else [value or 0 for value in values]


def _parameters(sent: Any) -> dict[str, object]:
    """Parameters by name; one without a value is left out."""
    chosen = {name: (parameter, parameter.WhichOneof("parameter_choice")) for name, parameter in sent.items()}
    return {name: getattr(parameter, choice) for name, (parameter, choice) in chosen.items() if choice}
