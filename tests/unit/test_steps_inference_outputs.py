"""Predictions of every kind become tensors, in JSON and in binary form."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import struct
from typing import Any

import numpy
import pandas
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps.inference import errors, messages, nested, outputs, signature
from tests.tensors import tensor

NAN = float("nan")
MOMENT = pandas.Timestamp("2026-01-02T03:04:05")


def written(prediction: object, **request: object) -> tuple[Any, bytes]:
    """The JSON of the response for a prediction, and its binary data."""
    asked = messages.read(json.dumps({"inputs": [tensor("x", "FP64", [1])], **request}).encode())
    encoded = outputs.selected(outputs.encode(prediction, []), [output.name for output in asked.outputs])
    body, length = messages.write(messages.Response("m", "1", encoded, asked.id), asked)
    return json.loads(body[:length]), body[length:] if length is not None else b""


@pytest.mark.parametrize(
    ("prediction", "tensors"),
    [
        (
            pandas.DataFrame({"p": [0.5, NAN], "label": ["x", None]}),
            [("p", "FP64", [2], [0.5, None], None), ("label", "BYTES", [2], ["x", None], "str")],
        ),
        (pandas.DataFrame([[1, "x"]], columns=[0, 0]), [("0", "INT64", [1], [1], None), ("0", "BYTES", [1], ["x"], "str")]),
        (pandas.Series([1, 2]), [("output-0", "INT64", [2], [1, 2], None)]),
        (pandas.Series([1, None], dtype="Int64"), [("output-0", "INT64", [2], [1, None], None)]),
        (pandas.Series([True, None], dtype="boolean"), [("output-0", "BOOL", [2], [True, None], None)]),
        (pandas.Series(["a", "b", None], dtype="category"), [("output-0", "BYTES", [3], ["a", "b", None], "str")]),
        (pandas.Series([MOMENT, None]), [("output-0", "BYTES", [2], ["2026-01-02T03:04:05", None], "datetime")]),
        (
            pandas.Series([MOMENT]).dt.tz_localize("Europe/Berlin"),
            [("output-0", "BYTES", [1], ["2026-01-02T03:04:05+01:00"], "datetime")],
        ),
        (numpy.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), [("output-0", "BYTES", [2], ["2026-01-02", None], "datetime")]),
        ([datetime.date(2026, 1, 2), None], [("output-0", "BYTES", [2], ["2026-01-02", None], "datetime")]),
        ([decimal.Decimal("1.10"), None], [("output-0", "BYTES", [2], ["1.10", None], "decimal")]),
        ([b"hello", None], [("output-0", "BYTES", [2], ["aGVsbG8=", None], "base64")]),
        ({"a": numpy.array([[1.5], [2.5]], dtype="float32")}, [("a", "FP32", [2, 1], [1.5, 2.5], None)]),
        ({"a": "x", "b": 3}, [("a", "BYTES", [1], ["x"], "str"), ("b", "INT64", [1], [3], None)]),
        (["null", "NaN", None, NAN], [("output-0", "BYTES", [4], ["null", "NaN", None, None], "str")]),
        ([numpy.int64(3), None], [("output-0", "INT64", [2], [3, None], None)]),
        ([numpy.float32(0.5), numpy.int8(1)], [("output-0", "FP64", [2], [0.5, 1.0], None)]),
        ([numpy.str_("a"), numpy.bytes_(b"b")], [("output-0", "BYTES", [2], ['"a"', '"Yg=="'], "json")]),
        (pandas.Series([numpy.True_, None], dtype=object), [("output-0", "BOOL", [2], [True, None], None)]),
        ([{numpy.int64(7): NAN, numpy.True_: pandas.NA, (1, 2): "Infinity", MOMENT: numpy.array([math.inf, NAN], "float32")}],
         [("output-0", "BYTES", [1], ['{"7": null, "true": null, "[1, 2]": "Infinity", "2026-01-02T03:04:05": [1e999, null]}'], "json")]),
        ([10**400, 0.5], [("output-0", "BYTES", [2], [str(10**400), "0.5"], "json")]),
        ([[numpy.zeros((1, 2), "datetime64[D]")], numpy.array(0, "datetime64[ns]")],
         [("output-0", "BYTES", [2], ['[[["1970-01-01", "1970-01-01"]]]', '"1970-01-01T00:00:00"'], "json")]),
        ([True, None], [("output-0", "BOOL", [2], [True, None], None)]),
        ([1, None], [("output-0", "INT64", [2], [1, None], None)]),
        ([1, 0.5, None], [("output-0", "FP64", [3], [1.0, 0.5, None], None)]),
        ([2**63], [("output-0", "UINT64", [1], [2**63], None)]),
        ([2**64], [("output-0", "BYTES", [1], [str(2**64)], "json")]),
        ([1, "x", True, None], [("output-0", "BYTES", [4], ["1", '"x"', "true", None], "json")]),
        ([True, 1], [("output-0", "BYTES", [2], ["true", "1"], "json")]),
        ([None], [("output-0", "BYTES", [1], [None], "str")]),
        ([{"k": MOMENT, "b": b"hi", "n": numpy.int32(1), "a": numpy.array([1.5])}],
         [("output-0", "BYTES", [1], ['{"k": "2026-01-02T03:04:05", "b": "aGk=", "n": 1, "a": [1.5]}'], "json")]),
        ([[1], [2, 3]], [("output-0", "BYTES", [2], ["[1]", "[2, 3]"], "json")]),
        ([[2**63 + 1, -1]], [("output-0", "BYTES", [1, 2], [str(2**63 + 1), "-1"], "json")]),
        ([[2**60, -1.5]], [("output-0", "FP64", [1, 2], [2.0**60, -1.5], None)]),
        ([[1, 2], [3, 4]], [("output-0", "INT64", [2, 2], [1, 2, 3, 4], None)]),
        ([["a", None], ["b", "c"]], [("output-0", "BYTES", [2, 2], ["a", None, "b", "c"], "str")]),
        (scipy.sparse.csr_matrix([[0.0, 1.5]]), [("output-0", "FP64", [1, 2], [0.0, 1.5], None)]),
        (True, [("output-0", "BOOL", [1], [True], None)]),
        ("x", [("output-0", "BYTES", [1], ["x"], "str")]),
    ],
)  # fmt: skip
def test_every_kind_of_prediction_becomes_tensors(prediction: object, tensors: list[tuple[object, ...]]) -> None:
    found = written(prediction)[0]["outputs"]
    described = [(one["name"], one["datatype"], one["shape"], one["data"], one.get("parameters", {}).get("content_type")) for one in found]
    assert described == tensors


SCALARS = st.one_of(
    st.none(),
    st.booleans().map(numpy.bool_),
    st.integers(-(2**31), 2**31 - 1).map(numpy.int32),
    st.floats(width=32).map(numpy.float32),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3).map(numpy.bytes_),
    st.datetimes().map(numpy.datetime64),
    st.lists(st.floats(), max_size=2).map(numpy.array),
)
NESTED = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.integers(0, 9).map(numpy.int8), inner, max_size=3))
)


@given(st.lists(NESTED, min_size=1, max_size=3))
def test_every_mixture_of_numpy_and_python_becomes_json(values: list[object]) -> None:
    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    [found] = json.loads(json.dumps(written(values)[0]), parse_constant=refused)["outputs"]
    for text in found["data"] if found.get("parameters") == {"content_type": "json"} else ():
        assert text is None or text == json.dumps(json.loads(text, parse_constant=refused)).replace("Infinity", "1e999")


PLAIN = st.one_of(
    SCALARS,
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        ["Infinity", '"NaN\\"', "\ud800", math.inf, -math.inf, -0.0, 1e300, True, numpy.str_("a"), numpy.float64(0.1), decimal.Decimal(1)]
    ),
)
DOCUMENTS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["a", "1", "true", "null", 1, 2.5, True, None]), inner, max_size=3),
    ),
)


@given(DOCUMENTS, st.booleans())
def test_the_text_of_plain_values_is_that_of_a_walk_through_them(value: object, ascii: bool) -> None:
    assert nested.text(value, ascii) == nested._walked(value, ascii)


def test_plain_values_are_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    walk = nested.encoded

    def counted(value: object) -> object:
        calls.append(value)
        return walk(value)

    monkeypatch.setattr(nested, "encoded", counted)
    rows: list[object] = [[1, 0.5, "x", None, True] * 20, {"a": (1, 2)}, list(range(1000))]
    assert json.loads(nested.text(rows)) == json.loads(json.dumps(rows))
    for prediction in (numpy.arange(1000), numpy.array([0.5, NAN] * 500), ["x", None] * 500, [1, None] * 500):
        written(prediction)
    assert calls == []
    assert nested.text([NAN]) == "[null]"
    assert calls != []


def test_an_output_has_the_name_of_the_signature() -> None:
    [encoded] = outputs.encode([1], signature.fields([{"name": "price", "type": "long"}], "output-0"))
    assert encoded.name == "price"


@given(st.lists(st.floats(), min_size=1, max_size=8))
def test_floating_point_numbers_survive_json_and_binary_form(values: list[float]) -> None:
    [found] = written(numpy.array(values))[0]["outputs"]
    assert found["data"] == [None if math.isnan(value) else value for value in values]
    document, data = written(numpy.array(values), parameters={"binary_data_output": True})
    assert document["outputs"] == [
        {"name": "output-0", "datatype": "FP64", "shape": [len(values)], "parameters": {"binary_data_size": 8 * len(values)}}
    ]
    assert data == struct.pack(f"<{len(values)}d", *values)


def test_only_the_requested_outputs_are_returned_each_in_its_form() -> None:
    prediction = {"a": [1], "b": [True, None], "c": [b"\xff", None]}
    document, data = written(prediction, id="7", outputs=[{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}])
    assert document["id"] == "7"
    assert document["outputs"] == [
        {"name": "b", "datatype": "BOOL", "shape": [2], "parameters": {"nulls": "1", "binary_data_size": 2}},
        {"name": "a", "datatype": "INT64", "shape": [1], "data": [1]},
    ]
    assert data == b"\x01\x00"
    own = {"name": "a", "parameters": {"binary_data": False}}
    document, data = written(prediction, parameters={"binary_data_output": True}, outputs=[own, {"name": "c"}])
    assert document["outputs"][0]["data"] == [1]
    assert document["outputs"][1]["parameters"] == {"nulls": "1", "binary_data_size": 9}
    assert data == b"\x01\x00\x00\x00\xff\x00\x00\x00\x00"
    with pytest.raises(errors.RequestError, match="the model has no output 'd'; it has: a, b, c"):
        written(prediction, outputs=[{"name": "d"}])
