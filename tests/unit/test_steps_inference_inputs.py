"""Tensors of requests become the inputs of models, exactly or not at all."""

from __future__ import annotations

import json
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps.inference import dates, errors, inputs, messages, signature, tensors
from tests.tensors import decode, tensor

COLUMNS = signature.fields(
    [
        {"name": "age", "type": "double", "required": True},
        {"name": "city", "type": "string"},
        {"name": "rank", "type": "long", "required": False},
    ],
    "input-0",
)
NUMBERS = signature.fields([{"name": "a", "type": "double"}, {"name": "b", "type": "float"}], "input-0")


def column(type: str, item: dict[str, Any], **described: object) -> list[Any]:
    """The values of a column `c` of this type, for the tensor `item`."""
    [field] = signature.fields([{"name": "c", "type": type, **described}], "input-0")
    return list(decode(item, fields=[field])["c"].tolist())


def refusal(type: str, item: dict[str, Any], **described: object) -> str:
    with pytest.raises(errors.RequestError) as raised:
        column(type, item, **described)
    return str(raised.value)


def test_named_tensors_become_the_columns_of_a_frame() -> None:
    frame = decode(tensor("city", "BYTES", ["Bonn", "Köln"]), tensor("age", "INT32", [3, 4], [2, 1]), fields=COLUMNS)
    assert frame.to_dict("list") == {"age": [3.0, 4.0], "city": ["Bonn", "Köln"]}
    assert frame["age"].dtype == "float64"


def test_one_matrix_becomes_all_columns() -> None:
    frame = decode(tensor("predict", "FP64", [[1, 2], [3, 4.5]], [2, 2]), fields=NUMBERS)
    assert frame.to_dict("list") == {"a": [1.0, 3.0], "b": [2.0, 4.5]}
    assert frame["b"].dtype == "float32"


def test_an_optional_column_may_be_left_out() -> None:
    old_and_new: list[dict[str, object]] = [{"required": False}, {"optional": True}, {"required": None}, {}]
    fields = [signature.fields([{"name": "a", "type": "long", **more}], "input-0")[0] for more in old_and_new]
    assert [field.required for field in fields] == [False, False, True, True]
    assert fields[1].metadata()["parameters"] == {"required": False}


@pytest.mark.parametrize("names", [[0, 1], [None, None], ["x", "y"]])
def test_columns_keep_their_labels(names: list[object]) -> None:
    fields = signature.fields([{"type": "long", **({} if name is None else {"name": name})} for name in names], "input-0")
    frame = decode(*(tensor(field.name, "INT64", [index]) for index, field in enumerate(fields)), fields=fields)
    assert frame.columns.tolist() == ([0, 1] if names == [None, None] else names)
    assert [field.name for field in fields] == {0: ["0", "1"], None: ["input-0", "input-0-1"], "x": ["x", "y"]}[names[0]]  # type: ignore[index]


def test_a_model_of_tensors_gets_arrays() -> None:
    fields = signature.fields([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": (-1, 2)}}], "input-0")
    assert fields[0].metadata() == {"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}
    array = decode(tensor("x", "FP64", [1, 2, 3, 4], [2, 2]), fields=fields)
    assert (array.tolist(), array.dtype) == ([[1, 2], [3, 4]], "float32")


@pytest.mark.parametrize(
    ("dtype", "sent", "expected"),
    [
        ("str", tensor("t", "BYTES", ["a", "bcd"]), numpy.array(["a", "bcd"])),
        ("object", tensor("t", "BYTES", ["a", None]), numpy.array(["a", None], object)),
        ("bytes", tensor("t", "BYTES", ["YWI="]), numpy.array([b"ab"])),
        ("datetime64[ns]", tensor("t", "BYTES", ["2026-01-02"]), numpy.array(["2026-01-02"], "datetime64[ns]")),
        ("int8", tensor("t", "INT64", [1, -128]), numpy.array([1, -128], "int8")),
        ("bool", tensor("t", "BOOL", [True]), numpy.array([True])),
    ],
)
def test_a_tensor_has_the_element_type_of_the_signature(dtype: str, sent: dict[str, Any], expected: numpy.ndarray) -> None:
    fields = signature.fields([{"name": "t", "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": (-1,)}}], "input-0")
    array = decode(sent, fields=fields)["t"]
    assert array.dtype == expected.dtype
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("dtype", "sent", "message"),
    [
        ("str", tensor("t", "BYTES", ["a", None]), "holds null"),
        ("int8", tensor("t", "INT64", [128]), "does not fit into INT8"),
        ("int8", tensor("t", "INT8", [1, None]), "holds null"),
        ("int8", tensor("t", "BYTES", ["1"]), "BYTES is not a number; the model takes int8 as INT8, for example"),
        ("float32", tensor("t", "FP64", [1e300]), "does not fit into FP32"),
        ("float32", tensor("t", "INT64", [1]), "INT64 cannot become float32"),
    ],
)
def test_a_tensor_is_refused_where_a_cast_would_change_it(dtype: str, sent: dict[str, Any], message: str) -> None:
    fields = signature.fields([{"name": "t", "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": (-1,)}}], "input-0")
    with pytest.raises(errors.RequestError) as raised:
        decode(sent, fields=fields)
    assert message in str(raised.value)


def test_without_a_signature_the_content_type_decides() -> None:
    sent = [tensor("x", "INT8", [1]), tensor("y", "BYTES", ["2026-01-02"], content_type="datetime"), tensor("z", "BOOL", [True], [1, 1])]
    arrays = decode(*sent)
    assert {name: array.tolist() for name, array in arrays.items() if name != "y"} == {"x": [1], "z": [[True]]}
    frame = decode(*sent, content_type="pd")
    assert frame.to_dict("records") == [{"x": 1, "y": pandas.Timestamp("2026-01-02"), "z": True}]
    assert decode(tensor("x", "FP64", [1, 2], [1, 2]), content_type="pd").to_dict("list") == {0: [1.0], 1: [2.0]}
    assert decode(tensor("x", "FP64", [1, 2], [1, 2])).tolist() == [[1.0, 2.0]]
    assert decode(tensor("x", "BYTES", ["aGk="], content_type="base64")).tolist() == [b"hi"]
    assert inputs.content_type({}, True, 2) == "pd"
    assert inputs.content_type({"content_type": "np"}, True, 2) == "np"
    assert inputs.content_type({}, True, 1) == inputs.content_type({}, False, 2) == ""
    with pytest.raises(errors.RequestError, match="must be pd"):
        inputs.content_type({"content_type": "csv"}, True, 2)


@pytest.mark.parametrize(
    ("type", "sent", "values"),
    [
        ("boolean", tensor("c", "BOOL", [True, None]), [True, None]),
        ("double", tensor("c", "FP32", [0.5, None]), [0.5, None]),
        ("double", tensor("c", "INT64", [2**53, None]), [2.0**53, None]),
        ("double", tensor("c", "BYTES", ["1.10", "-2e3", ".5", None]), [1.1, -2000.0, 0.5, None]),
        ("float", tensor("c", "BYTES", ["1.5"], content_type="decimal"), [1.5]),
        ("long", tensor("c", "UINT8", [255]), [255]),
        ("integer", tensor("c", "INT64", [-(2**31)]), [-(2**31)]),
        ("string", tensor("c", "BYTES", ["a", "", "null"]), ["a", "", "null"]),
        ("binary", tensor("c", "BYTES", ["aGVsbG8=", None]), [b"hello", None]),
        ("binary", tensor("c", "BYTES", ["aGVs\nbG8=\n"], content_type="base64"), [b"hello"]),
        ("binary", tensor("c", "BYTES", ["hello"], content_type="str"), [b"hello"]),
    ],
)
def test_a_column_takes_each_datatype_that_holds_its_values_exactly(type: str, sent: dict[str, Any], values: list[Any]) -> None:
    found = column(type, sent)
    assert [None if pandas.isna(value) else value for value in found] == values


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02", "2026-01-02"),
        ("20260102T030405Z", "2026-01-02T03:04:05"),
        ("2026-01-02 03:04", "2026-01-02T03:04"),
        ("2026-01-02T03:04:05.123456789", "2026-01-02T03:04:05.123456789"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05"),
        ("2026-01-01T23:30:00-0130", "2026-01-02T01:00:00"),
    ],
)
def test_dates_of_all_forms_of_iso_8601_mix_and_become_utc(text: str, moment: str) -> None:
    found = column("datetime", tensor("c", "BYTES", ["1999-12-31T23:59:59.5Z", text, None]))
    assert found[:2] == [pandas.Timestamp("1999-12-31T23:59:59.5"), pandas.Timestamp(moment)]
    assert found[2] is pandas.NaT


@pytest.mark.parametrize(
    ("unit", "datatype", "number"),
    [
        ("s", "INT64", 1767312000),
        ("ms", "INT64", 1767312000000),
        ("us", "INT64", 1767312000000000),
        ("ns", "INT64", 1767312000000000000),
        ("s", "FP64", 1767312000.0),
    ],
)
def test_dates_are_numbers_of_a_declared_unit_since_1970(unit: str, datatype: str, number: float) -> None:
    assert column("datetime", tensor("c", datatype, [number], unit=unit)) == [pandas.Timestamp("2026-01-02")]
    assert column("datetime", tensor("c", datatype, [None], unit=unit))[0] is pandas.NaT
    assert "need the unit" in refusal("datetime", tensor("c", datatype, [number]))


@given(st.lists(st.from_regex(dates._ISO, fullmatch=True), min_size=1, max_size=3))
def test_a_text_in_the_form_of_a_date_is_one_or_is_refused(texts: list[str]) -> None:
    try:
        found = column("datetime", tensor("c", "BYTES", texts))
    except errors.RequestError as error:
        assert "the input 'c'" in str(error)
    else:
        assert all(isinstance(moment, pandas.Timestamp) for moment in found)


ARRAY = {"items": {"type": "integer"}}
OBJECT: dict[str, object] = {
    "properties": {
        "id": {"type": "long", "required": True},
        "day": {"type": "datetime", "required": False},
        "parts": {"type": "array", "items": {"type": "float"}, "required": False},
    }
}


def test_nested_columns_have_the_types_that_mlflow_takes() -> None:
    [numbers, none] = column("array", tensor("c", "BYTES", ["[1, 2]", None]), required=False, **ARRAY)
    assert (numbers.dtype, numbers.tolist(), none) == ("int32", [1, 2], None)
    assert [row.tolist() for row in column("array", tensor("c", "INT64", [1, 2, 3, 4], [2, 2]), **ARRAY)] == [[1, 2], [3, 4]]
    [row] = column("object", tensor("c", "BYTES", ['{"id": 3, "day": "2026-01-02", "parts": [0.5]}']), **OBJECT)
    assert (row["id"], row["day"], row["parts"].dtype) == (3, numpy.datetime64("2026-01-02", "ns"), "float32")
    assert column("map", tensor("c", "BYTES", ['{"a": [true]}']), values={"type": "array", "items": {"type": "boolean"}}) == [{"a": [True]}]
    assert column("any", tensor("c", "BYTES", ["3", '"x"', "null", '{"a": []}'])) == [3, "x", None, {"a": []}]
    assert column("any", tensor("c", "INT64", [1, 2])) == [1, 2]
    assert column("sparkml_vector", tensor("c", "FP64", [1, 2], [1, 2])) == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("type", "sent", "described", "message"),
    [
        (
            "long",
            tensor("c", "INT64", [1, None]),
            {"required": False},
            "holds null, which no integer column of MLflow can; leave the column out",
        ),
        ("integer", tensor("c", "INT64", [2**31]), {}, "does not fit into INT32"),
        ("long", tensor("c", "FP64", [1.0]), {}, "FP64 is not an integer"),
        ("long", tensor("c", "UINT64", [2**63]), {}, "does not fit into INT64"),
        ("double", tensor("c", "INT64", [2**53 + 1]), {}, "cannot represent exactly"),
        ("double", tensor("c", "BYTES", ["old"]), {}, "'old' is not a decimal number"),
        ("double", tensor("c", "BOOL", [True]), {}, "BOOL is not a number"),
        ("float", tensor("c", "FP64", [1e39]), {}, "does not fit into FP32"),
        ("boolean", tensor("c", "INT8", [1]), {}, "INT8 is not boolean"),
        ("string", tensor("c", "INT8", [1]), {}, "INT8 is neither text nor bytes"),
        ("binary", tensor("c", "BYTES", ["a$="]), {}, "'a$=' is not base64"),
        ("datetime", tensor("c", "BYTES", ["02/01/2026"]), {}, "'02/01/2026' is not a date in ISO 8601"),
        ("datetime", tensor("c", "BYTES", ["2026-02-30"]), {}, "the input 'c'"),
        ("datetime", tensor("c", "BYTES", ["x" * 99]), {}, f"'{'x' * 40}' is not a date in ISO 8601"),
        ("array", tensor("c", "BYTES", [f"[{10**99}]"]), ARRAY, f": 1{'0' * 39} does not fit into integer"),
        ("array", tensor("c", "BYTES", [f"[{10**400}]"]), {"items": {"type": "double"}}, f": 1{'0' * 39} does not fit into double"),
        ("object", tensor("c", "BYTES", [json.dumps({"x" * 99: 1})]), OBJECT, f"no property '{'x' * 40}'; it has"),
        ("datetime", tensor("c", "BYTES", ["3026-01-01"]), {}, "the input 'c'"),
        ("datetime", tensor("c", "FP64", [float("inf")], unit="s"), {}, "a moment is infinite"),
        ("string", tensor("c", "BYTES", ["\ud800"]), {}, "half a character"),
        ("datetime", tensor("c", "INT64", [2**62], unit="s"), {}, "outside the years 1678 to 2261"),
        ("array", tensor("c", "BYTES", ["[1"]), ARRAY, "'[1' is not JSON"),
        ("array", tensor("c", "BYTES", ["[1.5]"]), ARRAY, "1.5 is not of the type integer"),
        ("array", tensor("c", "BYTES", ["3"]), ARRAY, "3 is not an array"),
        ("array", tensor("c", "BYTES", ["[1]"], []), ARRAY, "its shape must be [rows] or [rows, length], not []"),
        ("string", tensor("c", "BYTES", ["a"], []), {}, "its shape must be [rows] or [rows, 1], not []"),
        ("array", tensor("c", "BYTES", ["[2147483648]"]), ARRAY, "does not fit into integer"),
        ("object", tensor("c", "BYTES", ["{}"]), OBJECT, "the property 'id' is missing"),
        ("object", tensor("c", "BYTES", ['{"id": 1, "x": 2}']), OBJECT, "no property 'x'; it has: id, day, parts"),
        ("object", tensor("c", "BYTES", ['{"id": 1, "parts": [1e39]}']), OBJECT, "in 'parts': 1e+39 does not fit into float"),
        ("map", tensor("c", "BYTES", ["[]"]), {"values": {"type": "long"}}, "[] is not an object"),
    ],
)
def test_a_refusal_names_the_column_its_type_and_an_example(
    type: str, sent: dict[str, Any], described: dict[str, Any], message: str
) -> None:
    text = refusal(type, sent, **described)
    assert text.startswith("inputs[0]: the input 'c': ")
    assert message in text
    [field] = signature.fields([{"name": "c", "type": type, **described}], "input-0")
    assert f"; the model takes {signature.type_name(field.type or {})} as {field.datatype}, for example " in text
    example = json.loads(text.rpartition(", for example ")[2])
    assert len(decode(example, fields=[field])) == 1  # the example is a valid tensor


@given(st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.none()), min_size=1, max_size=20))
def test_numbers_keep_their_value(values: list[float | None]) -> None:
    array = decode(tensor("x", "FP64", values))
    assert array.dtype == "float64"
    assert [None if numpy.isnan(value) else value for value in array.tolist()] == values


@given(st.sampled_from(["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]), st.data())
def test_integers_keep_their_width(datatype: str, data: st.DataObject) -> None:
    bits, unsigned = int(datatype.rpartition("T")[2]), datatype.startswith("U")
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=10))
    array = decode(tensor("x", datatype, values))
    assert (array.dtype, array.tolist()) == (datatype.lower(), values)
    for beyond in (low - 1, high + 1):
        with pytest.raises(errors.RequestError):
            decode(tensor("x", datatype, [beyond]))


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ([], "must be a JSON object"),
        ({"inputs": []}, "must be a JSON object"),
        ({"inputs": [3]}, "inputs[0]: must be an object"),
        ({"inputs": [tensor("age", "DECIMAL", [1])]}, "inputs[0].datatype: must be one of BOOL"),
        ({"inputs": [tensor("age", "FP64", [1], [-1])]}, "inputs[0].shape: must be a list of at most 32 sizes"),
        ({"inputs": [tensor("age", "FP64", [1], [2])]}, "inputs[0]: has 1 values, the shape [2] needs 2"),
        (
            {"inputs": [tensor("age", "FP64", [1], [10**4000, 10**4000])]},
            "inputs[0].shape: must be a list of at most 32 sizes, each from 0 to",
        ),
        ({"inputs": [tensor("age", "FP64", [], [0, 10**30])]}, "inputs[0].shape: must be a list of at most 32 sizes, each from 0 to"),
        (
            {"inputs": [tensor("age", "FP64", [], [0, 2**16 + 1])]},
            "inputs[0].shape: a tensor without values has sizes whose product is at most",
        ),
        ({"inputs": [tensor("age", "FP64", [], [2**33, 0])]}, "inputs[0].shape: a tensor without values"),
        ({"inputs": [tensor("age", "FP64", [], [0, 2**62, 2**62])]}, "inputs[0].shape: a tensor without values"),
        ({"inputs": [{"name": "age", "shape": [1], "datatype": "FP64", "data": 3}]}, "inputs[0].data: must be a list"),
        ({"inputs": [tensor("age", "FP64", ["old"])]}, "inputs[0].data: holds values that are not FP64, which takes numbers"),
        ({"inputs": [tensor("age", "INT32", [1.5])]}, "inputs[0].data: holds values that are not INT32, which takes integers"),
        ({"inputs": [tensor("age", "INT32", [True, 1])]}, "inputs[0].data: holds values that are not INT32"),
        ({"inputs": [tensor("age", "FP32", [1e39])]}, "inputs[0].data: holds a number that does not fit into FP32"),
        ({"inputs": [tensor("age", "BYTES", [1])]}, "inputs[0].data: holds values that are not BYTES, which takes text"),
        ({"inputs": [tensor("age", "FP64", [[1], [1, 2]])]}, "inputs[0].data: the rows differ in length"),
        ({"inputs": [tensor("age", "BYTES", [["a"], ["b", "c"]], [2])]}, "inputs[0].data: the rows differ in length"),
        ({"inputs": [tensor("age", "BYTES", ["a"], content_type="gif")]}, "inputs[0].parameters.content_type: must be one of str"),
        ({"inputs": [tensor("age", "INT64", [1], unit="min")]}, "inputs[0].parameters.unit: must be one of s, ms, us, ns"),
        ({"inputs": [{**tensor("age", "FP64", [1]), "parameters": 3}]}, "inputs[0].parameters: must be an object"),
        ({"inputs": [tensor("age", "FP64", [1])], "parameters": 3}, "parameters: must be an object"),
        ({"inputs": [tensor("age", "FP64", [1])], "outputs": [3]}, 'outputs: must be a list of objects with "name"'),
        ({"inputs": [tensor("age", "FP64", [1]), tensor("age", "FP64", [1])]}, "inputs[1].name: 'age' is used twice"),
        (
            {"inputs": [tensor("age", "FP64", [1]), tensor("town", "BYTES", ["x"])]},
            "the model has no input 'town'; the model's inputs are: age, city, rank",
        ),
        (
            {"inputs": [tensor("age", "FP64", [1])]},
            "the input 'city' is missing; the model's inputs are: age, city, rank; for 'city' the model takes string as BYTES",
        ),
        ({"inputs": [tensor("age", "FP64", [1]), tensor("city", "BYTES", ["x", "y"])]}, "the inputs differ in their number of rows"),
        ({"inputs": [tensor("age", "FP64", [1, 2], [1, 2]), tensor("city", "BYTES", ["x"])]}, "the input 'age': is a column"),
        (
            {"inputs": [tensor("predict", "FP64", [1, 2], [1, 2])]},
            "the model has no input 'predict'; send one tensor for each of age, city, rank",
        ),
    ],
)
def test_an_invalid_request_is_explained(request_body: object, message: str) -> None:
    with pytest.raises(errors.RequestError) as raised:
        inputs.decode(messages.read(json.dumps(request_body).encode()).tensors, COLUMNS)
    assert message in str(raised.value)


def test_a_tensor_model_names_its_inputs_when_one_is_unknown() -> None:
    fields = [signature.Field("left", "FP64", (-1,)), signature.Field("right", "FP64", (-1,))]
    with pytest.raises(errors.RequestError, match="the model has no input 'middle'; it has: left, right"):
        decode(tensor("left", "FP64", [1]), tensor("middle", "FP64", [1]), fields=fields)
    with pytest.raises(errors.RequestError, match="the input 'right' is missing"):
        decode(tensor("left", "FP64", [1]), fields=fields)


def test_lists_that_are_nested_too_deeply_are_refused() -> None:
    data: list[object] = [1.0]
    for _ in range(5_000):
        data = [data]
    with pytest.raises(errors.RequestError, match=r"inputs\[0\]\.data: the lists are nested too deeply"):
        tensors.read(tensor("x", "FP64", data, [1]), "inputs[0]")
