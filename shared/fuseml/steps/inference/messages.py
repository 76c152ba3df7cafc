"""Requests and responses of the protocol over HTTP: JSON, and the extension for binary tensor data behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from fuseml.steps.inference import binary, errors, nested, tensors


@dataclass(frozen=True)
class Output:
    """An output that a request names; `binary` is None if the request decides for all of them."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True)
class Request:
    """An inference request. Without `outputs` it asks for all of them."""

    tensors: Sequence[tensors.Tensor]
    parameters: Mapping[str, object]
    outputs: Sequence[Output] = ()
    id: str | None = None

    def binary(self, name: str) -> bool:
        """Whether the output is asked for in binary form."""
        own = next((output.binary for output in self.outputs if output.name == name), None)
        return self.parameters.get("binary_data_output") is True if own is None else own


@dataclass(frozen=True)
class Response:
    """An inference response."""

    model: str
    version: str
    tensors: Sequence[tensors.Tensor]
    id: str | None = None


def read(body: bytes, header_length: str | None = None) -> Request:
    """The request in an HTTP body; `header_length` is its header `Inference-Header-Content-Length`: the length of the JSON before the binary
    data. Raises RequestError."""
    length = _length(header_length, len(body))
    try:
        document = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise errors.RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, Mapping) or not isinstance(document.get("inputs"), list) or not document["inputs"]:
        raise errors.RequestError('the request must be a JSON object with a list of tensors under "inputs"')
    parameters = _object(document.get("parameters"), "parameters")
    outputs = document.get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in outputs):
        raise errors.RequestError('outputs: must be a list of objects with "name"')
    given = document.get("id")
    return Request(
        unique(_inputs(document["inputs"], memoryview(body)[length:])),
        parameters,
        [_asked(item, f"outputs[{index}]") for index, item in enumerate(outputs)],
        given if isinstance(given, str) else None,
    )


def unique(sent: list[tensors.Tensor]) -> list[tensors.Tensor]:
    """The tensors, if their names differ. Raises RequestError."""
    names: set[str] = set()
    for tensor in sent:
        if tensor.name in names:
            raise errors.RequestError(f"{tensor.where}.name: '{tensor.name}' is used twice")
        names.add(tensor.name)
    return sent


def _length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit()) or len(header) > 20 or int(header) > size:
        raise errors.RequestError(
            f"Inference-Header-Content-Length: must be the length of the JSON, at most that of the body ({size} bytes)"
        )
    return int(header)


def _inputs(items: list[object], data: memoryview) -> list[tensors.Tensor]:
    read, offset = [], 0
    for index, item in enumerate(items):
        where = f"inputs[{index}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise errors.RequestError(f'{where}: must be an object with "name", "shape", "datatype" and "data"')
        size = _object(item.get("parameters"), f"{where}.parameters").get("binary_data_size")
        raw = None
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(data) - offset:
                left = f"{len(data) - offset} bytes of binary data are left"
                raise errors.RequestError(f"{where}.parameters.binary_data_size: must be a number of bytes, and {left}")
            raw = bytes(data[offset : offset + size])
            offset += size
        read.append(tensors.read(item, where, raw))
    if offset != len(data):
        raise errors.RequestError(f"the body has {len(data) - offset} bytes of binary data that belong to no input")
    return read


def _asked(item: Mapping[str, object], where: str) -> Output:
    wanted = _object(item.get("parameters"), f"{where}.parameters").get("binary_data")
    return Output(str(item["name"]), wanted if isinstance(wanted, bool) else None)


def _object(value: object, where: str) -> Mapping[str, object]:
    if value is not None and not isinstance(value, Mapping):
        raise errors.RequestError(f"{where}: must be an object")
    return value or {}


def write(response: Response, request: Request) -> tuple[bytes, int | None]:
    """The HTTP body of a response, and the length of its JSON if binary data follow."""
    head: dict[str, object] = {"model_name": response.model, "model_version": response.version}
    if response.id is not None:
        head["id"] = response.id
    texts, parts = [], []
    for tensor in response.tensors:
        raw = pack(tensor) if request.binary(tensor.name) else None
        texts.append(_output(tensor, raw))
        parts += [] if raw is None else [raw]
    text = f'{json.dumps(head)[:-1]}, "outputs": [{", ".join(texts)}]}}'.encode()
    return b"".join([text, *parts]), len(text) if parts else None


def pack(tensor: tensors.Tensor) -> bytes:
    """The values of a tensor in binary form."""
    return binary.pack(tensor.array, tensor.datatype, tensors.DATATYPES[tensor.datatype])


def described(tensor: tensors.Tensor, raw: bool) -> dict[str, object]:
    """The parameters of a tensor in a response; those of values in binary form with `raw`."""
    parameters: dict[str, object] = {}
    # Bytes in binary form are the bytes themselves.
    if tensor.content_type and not (raw and tensor.content_type == "base64"):
        parameters["content_type"] = tensor.content_type
    nulls = binary.null_positions(tensor.array) if raw else []
    if nulls:
        parameters["nulls"] = ",".join(map(str, nulls))
    return parameters


def _output(tensor: tensors.Tensor, raw: bytes | None) -> str:
    parameters = described(tensor, raw is not None)
    if raw is not None:
        parameters["binary_data_size"] = len(raw)
    written = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
    text = json.dumps({**written, "parameters": parameters} if parameters else written)
    return text if raw is not None else f'{text[:-1]}, "data": {_data(tensor)}}}'


def _data(tensor: tensors.Tensor) -> str:
    values = tensor.array.ravel()
    if values.dtype.kind == "f" and numpy.isnan(values).any():
        nulls, values = numpy.isnan(values), values.astype(object)
        values[nulls] = None
    return nested.text(values.tolist())
