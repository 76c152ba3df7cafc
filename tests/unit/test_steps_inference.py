"""Open Inference Protocol tensors to model inputs and predictions back to tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps.inference import errors, inputs, outputs, signature

COLUMNS = signature.fields(
    [
        {"name": "age", "type": "double", "required": True},
        {"name": "city", "type": "string"},
        {"name": "rank", "type": "long", "required": False},
    ],
    "input-0",
)
NUMBERS = signature.fields([{"name": "a", "type": "double"}, {"name": "b", "type": "float"}], "input-0")


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def decode(*tensors: object, fields: list[signature.Field]) -> Any:
    return inputs.decode({"inputs": list(tensors)}, fields)


def test_named_tensors_become_the_columns_of_a_frame() -> None:
    frame = decode(tensor("city", "BYTES", ["Bonn", "Köln"]), tensor("age", "INT32", [3, 4], [2, 1]), fields=COLUMNS)
    assert frame.to_dict("list") == {"age": [3.0, 4.0], "city": ["Bonn", "Köln"]}
    assert frame["age"].dtype == "float64"


def test_one_matrix_becomes_all_columns() -> None:
    frame = decode(tensor("predict", "FP64", [[1, 2], [3, 4.5]], [2, 2]), fields=NUMBERS)
    assert frame.to_dict("list") == {"a": [1.0, 3.0], "b": [2.0, 4.5]}
    assert frame["b"].dtype == "float32"


def test_a_model_without_columns_gets_arrays() -> None:
    fields = signature.fields([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": (-1, 2)}}], "input-0")
    assert fields[0].metadata() == {"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}
    assert decode(tensor("x", "FP32", [1, 2, 3, 4], [2, 2]), fields=fields).tolist() == [[1, 2], [3, 4]]
    assert set(decode(tensor("x", "INT8", [1]), tensor("y", "BOOL", [True]), fields=[])) == {"x", "y"}


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none()), min_size=1, max_size=20))
def test_numbers_round_trip(values: list[float | None]) -> None:
    array = decode(tensor("x", "FP64", values), fields=[])
    assert array.dtype == "float64"
    [out] = outputs.encode(array, [])
    assert out == {"name": "output-0", "datatype": "FP64", "shape": [len(values)], "data": values}


@given(st.sampled_from(["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]), st.data())
def test_integers_keep_their_width(datatype: str, data: st.DataObject) -> None:
    bits, unsigned = int(datatype.rpartition("T")[2]), datatype.startswith("U")
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=10))
    [out] = outputs.encode(decode(tensor("x", datatype, values), fields=[]), [])
    assert (out["datatype"], out["data"]) == (datatype, values)
    with pytest.raises(errors.RequestError):
        decode(tensor("x", datatype, [high + 1]), fields=[])


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ([], "must be a JSON object"),
        ({"inputs": []}, "must be a JSON object"),
        ({"inputs": [3]}, "inputs[0]: must be an object"),
        ({"inputs": [tensor("age", "DECIMAL", [1])]}, "inputs[0].datatype: must be one of BOOL"),
        ({"inputs": [tensor("age", "FP64", [1], [-1])]}, "inputs[0].shape: must be a list of sizes"),
        ({"inputs": [tensor("age", "FP64", [1], [2])]}, "inputs[0].data: has 1 values, the shape [2] needs 2"),
        ({"inputs": [{"name": "age", "shape": [1], "datatype": "FP64", "data": 3}]}, "inputs[0].data: must be a list"),
        ({"inputs": [tensor("age", "FP64", ["old"])]}, "inputs[0].data: holds values that are not FP64"),
        ({"inputs": [tensor("age", "INT32", [1.5])]}, "inputs[0].data: holds values that are not INT32"),
        ({"inputs": [tensor("age", "BYTES", [1])]}, "inputs[0].data: BYTES must be text"),
        ({"inputs": [tensor("age", "FP64", [[1], [1, 2]])]}, "inputs[0].data: the rows differ in length"),
        ({"inputs": [tensor("age", "FP64", [1]), tensor("age", "FP64", [1])]}, "inputs[1].name: 'age' is used twice"),
        (
            {"inputs": [tensor("age", "FP64", [1]), tensor("town", "BYTES", ["x"])]},
            "the input 'city' is missing; the model's inputs are: age, city",
        ),
        (
            {"inputs": [tensor("age", "FP64", [1]), tensor("city", "BYTES", ["x"]), tensor("sex", "INT8", [1])]},
            "the model has no input 'sex'; the model's inputs are: age, city, rank",
        ),
        ({"inputs": [tensor("age", "FP64", [1]), tensor("city", "BYTES", ["x", "y"])]}, "the inputs differ in their number of rows"),
        ({"inputs": [tensor("age", "FP64", [1, 2], [1, 2]), tensor("city", "BYTES", ["x"])]}, "the input 'age' is a column"),
        (
            {"inputs": [tensor("predict", "FP64", [1, 2], [1, 2])]},
            "the model has no input 'predict'; send one tensor for each of age, city, rank",
        ),
    ],
)
def test_an_invalid_request_is_explained(request_body: object, message: str) -> None:
    with pytest.raises(errors.RequestError) as raised:
        inputs.decode(json.loads(json.dumps(request_body)), COLUMNS)
    assert message in str(raised.value)


def test_a_tensor_model_names_its_inputs_when_one_is_unknown() -> None:
    fields = [signature.Field("left", "FP64", (-1,)), signature.Field("right", "FP64", (-1,))]
    with pytest.raises(errors.RequestError, match="the model has no input 'middle'; it has: left, right"):
        decode(tensor("left", "FP64", [1]), tensor("middle", "FP64", [1]), fields=fields)


@pytest.mark.parametrize(
    ("prediction", "tensors"),
    [
        (
            pandas.DataFrame({"p": [0.5, float("nan")], "label": ["x", "y"]}),
            [("p", "FP64", [2], [0.5, None]), ("label", "BYTES", [2], ["x", "y"])],
        ),
        (pandas.Series([1, 2]), [("output-0", "INT64", [2], [1, 2])]),
        ({"a": numpy.array([[1.5], [2.5]], dtype="float32")}, [("a", "FP32", [2, 1], [1.5, 2.5])]),
        (["x", "y"], [("output-0", "BYTES", [2], ["x", "y"])]),
        ([{"k": 1}], [("output-0", "BYTES", [1], ['{"k": 1}'])]),
        ([[1], [2, 3]], [("output-0", "BYTES", [2], ["[1]", "[2, 3]"])]),
        (True, [("output-0", "BOOL", [1], [True])]),
        (numpy.array(["2026-01-02"], dtype="datetime64[D]"), [("output-0", "BYTES", [1], ["2026-01-02"])]),
    ],
)
def test_every_kind_of_prediction_becomes_tensors(prediction: object, tensors: list[tuple[str, str, list[int], list[object]]]) -> None:
    encoded = outputs.encode(prediction, [])
    assert [(item["name"], item["datatype"], item["shape"], item["data"]) for item in encoded] == tensors


def test_only_the_requested_outputs_are_returned() -> None:
    tensors = outputs.encode({"a": [1], "b": [2]}, [])
    assert [item["name"] for item in outputs.selected(tensors, [{"name": "b"}])] == ["b"]
    assert outputs.selected(tensors, None) == tensors
    with pytest.raises(errors.RequestError, match="the model has no output 'c'; it has: a, b"):
        outputs.selected(tensors, [{"name": "c"}])
