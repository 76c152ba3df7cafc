"""The gRPC service of the model server: the same answers as over HTTP, from messages that protoc's code reads."""

from __future__ import annotations

import argparse
import base64
import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from google.protobuf import json_format

from fuseml.steps import model_server, sdk
from fuseml.steps.inference import descriptors, rpc
from tests import commands
from tests.component import pyfunc_models
from tests.tensors import tensor
from tests.waiting import PATIENCE

grpc = pytest.importorskip("grpc", reason="needs grpcio: install fuseml[grpc]")

with pyfunc_models.quiet():
    from mlflow.types.schema import ColSpec, TensorSpec

KEY = "the key"


def test_the_messages_are_those_that_protoc_reads(tmp_path: Path) -> None:
    from google.protobuf import descriptor_pb2

    compiled = tmp_path / "set"
    folder, name = descriptors.PROTO.parent, descriptors.PROTO.name
    commands.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={compiled}", name])
    [expected] = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    # protoc adds the names of fields in JSON, and empty options for the braces of a method.
    _strip(expected.message_type)
    for method in expected.service[0].method:
        method.ClearField("options")
    assert descriptors.file_descriptor(descriptors.PROTO.read_text()) == expected


def _strip(messages: Any) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _strip(message.nested_type)


def _plain(value: Any) -> Any:
    """A value in protobuf's form of JSON, which old versions take as well."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return "Infinity" if value == float("inf") else value


class Client:
    """Calls a service by messages of the same file."""

    def __init__(self, channel: Any, key: str = KEY) -> None:
        self._channel, self._key, self.messages = channel, key, descriptors.classes()

    def call(self, name: str, /, **fields: object) -> Any:
        method = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}",
            request_serializer=self.messages[f"{name}Request"].SerializeToString,
            response_deserializer=self.messages[f"{name}Response"].FromString,
        )
        request = json_format.ParseDict(_plain(fields), self.messages[f"{name}Request"]())
        return method(request, timeout=PATIENCE, metadata=[("x-fuseml-key", self._key)] if self._key else None)

    def infer(self, *inputs: dict[str, object], **fields: object) -> Any:
        return self.call("ModelInfer", model_name="m", inputs=inputs, **fields)

    def refused(self, name: str, /, **fields: object) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as raised:
            self.call(name, **fields)
        return raised.value.code().name, raised.value.details()


@contextlib.contextmanager
def serving(model: Any, key: str = KEY, limit: int = -1) -> Iterator[tuple[Client, pyfunc_models.Server]]:
    server = pyfunc_models.Server(model)
    calls = rpc.Server(server.served, "3.0", ("127.0.0.1", 0), key, limit)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{calls.port}") as channel:
            yield Client(channel), server
    finally:
        calls.stop(PATIENCE)


TYPES = {"n": "double", "f": "float", "i": "integer", "b": "boolean", "s": "string", "x": "binary", "d": "datetime"}


def echo(frame: pandas.DataFrame) -> pandas.DataFrame:
    return frame


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(pyfunc_models.model(echo, [ColSpec(kind, name, required=False) for name, kind in TYPES.items()])) as (client, _):
        yield client


def one(name: str, datatype: str, size: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [size], **more}


def test_health_and_metadata(client: Client) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ModelReady", name="m").ready
    server = client.call("ServerMetadata")
    assert (server.name, server.version, list(server.extensions)) == ("fuseml-model-server", "3.0", ["binary_tensor_data"])
    model = client.call("ModelMetadata", name="m", version="1")
    assert (model.name, list(model.versions), model.platform, dict(model.properties)) == (
        "m",
        ["1"],
        "mlflow",
        {"model_uri": "models:/m/1"},
    )
    datatypes = ["FP64", "FP32", "INT32", "BOOL", "BYTES", "BYTES", "BYTES"]
    assert [(item.name, item.datatype, list(item.shape)) for item in model.inputs] == [
        (name, datatype, [-1]) for name, datatype in zip(TYPES, datatypes, strict=True)
    ]


def test_values_of_all_datatypes_in_contents(client: Client) -> None:
    answer = client.infer(
        one("n", "FP64", 2, contents={"fp64_contents": [0.1, float("inf")]}),
        one("f", "FP32", 2, contents={"fp32_contents": [0.5, 1.5]}),
        one("i", "INT8", 2, contents={"int_contents": [-1, 2]}),
        one("b", "BOOL", 2, contents={"bool_contents": [True, False]}, parameters={"nulls": {"string_param": "1"}}),
        one("s", "BYTES", 2, contents={"bytes_contents": ["Köln".encode(), b""]}),
        one("x", "BYTES", 2, contents={"bytes_contents": [b"\xff", b""]}, parameters={"nulls": {"string_param": "1"}}),
        one("d", "INT64", 2, contents={"int64_contents": [0, 1000]}, parameters={"unit": {"string_param": "ms"}}),
        id="7",
    )
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "7")
    assert not answer.raw_output_contents
    found = {item.name: item for item in answer.outputs}
    assert list(found["n"].contents.fp64_contents) == [0.1, float("inf")]
    assert list(found["f"].contents.fp32_contents) == [0.5, 1.5]
    assert (found["i"].datatype, list(found["i"].contents.int_contents)) == ("INT32", [-1, 2])
    assert (list(found["b"].contents.bool_contents), found["b"].parameters["nulls"].string_param) == ([True, False], "1")
    assert list(found["s"].contents.bytes_contents) == ["Köln".encode(), b""]
    assert (list(found["x"].contents.bytes_contents), found["x"].parameters["nulls"].string_param) == ([b"\xff", b""], "1")
    assert list(found["d"].contents.bytes_contents) == [b"1970-01-01T00:00:00", b"1970-01-01T00:00:01"]
    assert found["d"].parameters["content_type"].string_param == "datetime"


def test_values_in_binary_form_are_answered_in_it(client: Client) -> None:
    raw = [struct.pack("<d", 0.25), struct.pack("<I", 2) + b"hi"]
    answer = client.infer(one("n", "FP64", 1), one("s", "BYTES", 1), raw_input_contents=raw, outputs=[{"name": "s"}, {"name": "n"}])
    assert [item.name for item in answer.outputs] == ["s", "n"]
    assert list(answer.raw_output_contents) == raw[::-1]


def test_numbers_of_16_bits_are_sent_in_binary_form() -> None:
    import numpy

    with serving(pyfunc_models.model(lambda data: data, [TensorSpec(numpy.dtype("float16"), (-1,))])) as (client, _):
        answer = client.infer(one("x", "FP16", 1), raw_input_contents=[b"\x00\x3c"])
        assert list(answer.raw_output_contents) == [b"\x00\x3c"]
        assert client.refused("ModelInfer", model_name="m", inputs=[one("x", "FP16", 1, contents={})]) == (
            "INVALID_ARGUMENT",
            "inputs[0].datatype: FP16 has no contents; send raw_input_contents",
        )


def test_the_answer_is_that_of_http() -> None:
    with serving(pyfunc_models.model(lambda frame: frame["x"] * 3, [ColSpec("double", "x")])) as (client, server):
        values = [0.1, 2.5]
        [output] = client.infer(one("x", "FP64", 2, contents={"fp64_contents": values})).outputs
        [expected] = server.infer({"inputs": [tensor("x", "FP64", values)]}).document["outputs"]
        assert (output.name, output.datatype, list(output.shape), list(output.contents.fp64_contents)) == tuple(
            expected[key] for key in ("name", "datatype", "shape", "data")
        )


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        ([], {}, "inputs: the request has no tensors"),
        ([one("n", "FP64", 1), one("s", "BYTES", 1)], {"raw_input_contents": [b""]}, "raw_input_contents: has 1 elements for 2 inputs"),
        ([one("n", "FP64", 1)], {"raw_input_contents": [b""]}, "inputs[0]: the binary data: has 0 bytes, 1 elements of FP64 need 8"),
        (
            [one("n", "FP64", 1, contents={"fp64_contents": [1]})],
            {"raw_input_contents": [b"\0" * 8]},
            "inputs[0].contents: must be left out if the request has raw_input_contents",
        ),
        ([one("i", "INT8", 1, contents={"int_contents": [128]})], {}, "inputs[0].contents: holds a number that does not fit into INT8"),
        ([one("n", "FP64", 2, contents={"fp64_contents": [1]})], {}, "inputs[0]: has 1 values, the shape [2] needs 2"),
        ([one("n", "GIF", 1)], {}, "inputs[0].datatype: must be one of BOOL"),
        ([one("n", "BOOL", 1, contents={"bool_contents": [True]})], {}, "the model takes double as FP64, for example"),
        ([one("n", "FP64", 1, contents={"fp64_contents": [1]})], {"outputs": [{"name": "y"}]}, "the model has no output 'y'; it has: n"),
    ],
)
def test_an_invalid_call_is_explained(client: Client, inputs: list[Any], more: dict[str, Any], message: str) -> None:
    code, details = client.refused("ModelInfer", model_name="m", inputs=inputs, **more)
    assert code == "INVALID_ARGUMENT"
    assert message in details


def test_unknown_models_and_callers_without_the_key_are_refused(client: Client) -> None:
    for call, name in (("ModelInfer", "model_name"), ("ModelReady", "name"), ("ModelMetadata", "name")):
        code, details = client.refused(call, **{name: "other"})
        assert (code, "this server has 'm' with version 1" in details) == ("NOT_FOUND", True)
    assert client.refused("ModelReady", name="m", version="2")[0] == "NOT_FOUND"
    code, details = client.refused("ModelReady", name="long\n" * 10_000)
    assert (code, len(details), "\n" in details) == ("NOT_FOUND", 2000, False)
    code, details = client.refused("ModelInfer", model_name="m", inputs=[one("long" * 10_000, "FP64", 0)])
    assert (code, len(details)) == ("INVALID_ARGUMENT", 2000)
    for key in ("", "another key"):
        assert Client(client._channel, key).refused("ServerLive")[0] == "UNAUTHENTICATED"


def test_without_grpcio_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    served = pyfunc_models.Server(pyfunc_models.model(echo, [ColSpec("string", "s")])).served
    monkeypatch.setitem(sys.modules, "grpc", None)
    options = argparse.Namespace(host="127.0.0.1", grpc_port=0, max_body=1)
    with pytest.raises(sdk.StepError, match="--grpc-port needs grpcio in the environment of the model server"):
        model_server._grpc(served, options, "")


def test_a_call_has_a_bounded_size_and_a_port_one_server() -> None:
    with serving(pyfunc_models.model(echo, [ColSpec("string", "s")]), limit=1000) as (client, server):
        large = [one("s", "BYTES", 1, contents={"bytes_contents": [b"x" * 2000]})]
        assert client.refused("ModelInfer", model_name="m", inputs=large)[0] == "RESOURCE_EXHAUSTED"
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="cannot be used"):
            rpc.Server(server.served, "3.0", ("127.0.0.1", taken.getsockname()[1]))
