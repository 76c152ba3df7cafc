"""The extension for binary tensor data: values behind the JSON of a request."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps.inference import binary, errors, inputs, messages, signature, tensors

NUMBERS = [name for name in tensors.DATATYPES if name not in ("BYTES", "BF16")]


def read(*parts: tuple[dict[str, Any], bytes], length: str | None = None) -> messages.Request:
    """The request with these tensors, each with its binary data."""
    items = [{**item, "parameters": {"binary_data_size": len(data), **item.get("parameters", {})}} for item, data in parts]
    head = json.dumps({"inputs": items}).encode()
    return messages.read(head + b"".join(data for _, data in parts), str(len(head)) if length is None else length)


def described(datatype: str, shape: list[int], **parameters: object) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape, "parameters": parameters}


@given(st.sampled_from(NUMBERS), st.data())
def test_numbers_keep_their_bits(datatype: str, data: st.DataObject) -> None:
    dtype = numpy.dtype(tensors.DATATYPES[datatype])
    sent = data.draw(st.binary(min_size=2 * dtype.itemsize, max_size=2 * dtype.itemsize))
    if datatype == "BOOL":
        sent = bytes(byte & 1 for byte in sent)
    [found] = read((described(datatype, [2, 1]), sent)).tensors
    assert (found.array.dtype, found.array.shape, found.array.flags.writeable) == (dtype, (2, 1), True)
    assert messages.pack(found) == sent


@given(st.lists(st.one_of(st.binary(max_size=5), st.none()), min_size=1, max_size=5))
def test_bytes_keep_their_values_and_nulls(values: list[bytes | None]) -> None:
    array = binary.of_objects(values)
    nulls = binary.null_positions(array)
    parameters = {"nulls": ",".join(map(str, nulls))} if nulls else {}
    [found] = read((described("BYTES", [len(values)], **parameters), binary.pack(array, "BYTES", "object"))).tensors
    assert found.array.tolist() == values
    [field] = signature.fields([{"name": "x", "type": "binary"}], "input-0")
    assert inputs.decode([found], [field])["x"].tolist() == values  # type: ignore[index]


def test_tensors_of_both_forms_mix() -> None:
    text = struct.pack("<I", 5) + "Köln".encode()
    request = read((described("FP32", [2]), struct.pack("<2f", 0.5, 1.5)), ({**described("BYTES", [1]), "name": "y"}, text))
    fields = signature.fields([{"name": "x", "type": "float"}, {"name": "y", "type": "string"}], "input-0")
    first = request.tensors[0].array.tolist()
    assert (first, inputs.decode([request.tensors[1]], [fields[1]])["y"].tolist()) == ([0.5, 1.5], ["Köln"])  # type: ignore[index]
    mixed = [
        {**described("BF16", [1]), "parameters": {"binary_data_size": 2}},
        {"name": "y", "datatype": "INT8", "shape": [1], "data": [3]},
    ]
    head = json.dumps({"inputs": mixed}).encode()
    assert [one.array.tolist() for one in messages.read(head + b"\x80\x3f", str(len(head))).tensors] == [[1.0], [3]]


@pytest.mark.parametrize(
    ("item", "data", "length", "message"),
    [
        (described("FP64", [2]), b"\0" * 15, None, "inputs[0]: the binary data: has 15 bytes, 2 elements of FP64 need 16"),
        (described("BOOL", [1]), b"\2", None, "a BOOL is a byte of value 0 or 1"),
        (described("BYTES", [1]), b"\5\0\0\0abc", None, "is not 1 elements of BYTES"),
        (described("BYTES", [1]), b"\1\0", None, "is not 1 elements of BYTES"),
        (described("BYTES", [2]), b"\0\0\0\0", None, "is not 2 elements of BYTES"),
        (described("INT8", [1], binary_data_size=2), b"\0", None, "binary_data_size: must be a number of bytes, and 1 bytes of binary data are left"),
        (described("INT8", [1], binary_data_size="1"), b"\0", None, "binary_data_size: must be a number of bytes"),
        (described("INT8", [0], binary_data_size=0), b"\0", None, "the body has 1 bytes of binary data that belong to no input"),
        (described("INT8", [1], nulls="1"), b"\0", None, 'nulls: must list positions of elements, such as "0,3"'),
        (described("INT8", [1], nulls="9" * 5000), b"\0", None, "nulls: must list positions of elements"),
        (described("INT8", [1], nulls="x"), b"\0", None, "nulls: must list positions of elements"),
        (described("INT8", [1]), b"\0", "1000", "Inference-Header-Content-Length: must be the length of the JSON"),
        (described("INT8", [1]), b"\0", "-1", "Inference-Header-Content-Length: must be the length of the JSON"),
        (described("INT8", [1]), b"\0", "3", "the body is not JSON"),
    ],
)  # fmt: skip
def test_invalid_binary_data_are_explained(item: dict[str, Any], data: bytes, length: str | None, message: str) -> None:
    with pytest.raises(errors.RequestError) as raised:
        read((item, data), length=length)
    assert message in str(raised.value)
