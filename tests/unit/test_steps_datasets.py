"""Datasets of the scorer: formats in chunks, invalid rows with their numbers, and the types of a model's columns."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.steps.inference import signature as inference
from fuseml.steps.scoring import datasets, features, places
from tests.tensors import decode, tensor

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
TABLES = st.lists(st.tuples(CELLS, st.integers(-9, 9), st.floats(-9, 9)), min_size=1, max_size=12)


def read(data: bytes, format: str, size: int = 5) -> list[datasets.Chunk]:
    return list(datasets.chunks(io.BytesIO(data), format, size))


def faults(data: bytes, format: str, size: int = 5) -> list[str]:
    return [str(fault) for chunk in read(data, format, size) for fault in chunk.faults]


def written(frames: Iterable[pandas.DataFrame], format: str) -> bytes:
    data = io.BytesIO()
    destination = places.Destination(data.write)
    writer = datasets.Writer(destination, format)
    for frame in frames:
        writer.write(frame)
    writer.end()
    assert destination.size == len(data.getvalue())
    return data.getvalue()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
@given(table=TABLES, size=st.integers(1, 13))
def test_what_is_written_is_read_in_any_chunks(format: str, table: list[tuple[str, int, float]], size: int) -> None:
    frame = pandas.DataFrame(table, columns=["text", "whole", "part"])
    data = written([frame.iloc[:1], frame.iloc[1:]] if len(frame) > 1 else [frame], format)
    chunks = read(data, format, size)
    assert [len(chunk.frame) for chunk in chunks] == [min(size, len(table) - start) for start in range(0, len(table), size)]
    whole = pandas.concat([chunk.frame for chunk in chunks])
    assert whole.index.tolist() == list(range(1, len(table) + 1))
    rows = [tuple(row) for row in whole.to_numpy().tolist()]
    assert [(str(text), int(number), float(part)) for text, number, part in rows] == table


class Endless(io.RawIOBase):
    """A dataset without end, which counts the bytes that are read."""

    def __init__(self, head: bytes, row: bytes) -> None:
        self.rest, self.row, self.taken = head, row, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.rest += self.row * (len(buffer) // len(self.row) + 1)
        count = len(buffer)
        buffer[:], self.rest = self.rest[:count], self.rest[count:]
        self.taken += count
        return count


@pytest.mark.parametrize(("format", "head", "row"), [("csv", b"a,b\n", b"1,2\n"), ("jsonl", b"", b'{"a": 1, "b": 2}\n')])
def test_only_the_rows_of_the_next_chunk_are_read(format: str, head: bytes, row: bytes) -> None:
    endless = Endless(head, row)
    buffered = 1 << 16
    chunks = datasets.chunks(io.BufferedReader(endless, buffered), format, 1000)
    for number in range(1, 40):
        assert len(next(chunks).frame) == 1000
        assert endless.taken <= number * 1000 * len(row) + len(head) + 3 * buffered


@pytest.mark.parametrize(
    ("format", "data", "found"),
    [
        (
            "csv",
            b"a,b\n1,2\n3\n4,5,6\n7,8\n",
            ["row 2: line 3 has 1 fields, and the header has 2", "row 3: line 4 has 3 fields, and the header has 2"],
        ),
        ("csv", b'a,b\n"1"x,2\n3,4\n', ["row 1: line 2: ',' expected after '\"'"]),
        ("csv", b"a,b\n\n1,2\n\n3\n", ["row 2: line 5 has 1 fields, and the header has 2"]),
        (
            "jsonl",
            b'{"a": 1}\n\n[2]\n{"a"\n',
            ["row 2: it is no JSON object", "row 3: it is not JSON: Expecting ':' delimiter: line 2 column 1 (char 5)"],
        ),
        ("jsonl", b'{"a": 1}\n{"\\ud800": 2}\n', ["row 2: the name of a value holds half a character"]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_an_unreadable_row_is_reported_with_its_number_and_the_others_are_read(
    format: str, data: bytes, found: list[str], size: int
) -> None:
    assert faults(data, format, size) == found
    assert sum(len(chunk.frame) for chunk in read(data, format, size)) > 0


@pytest.mark.parametrize(
    ("format", "data", "problem"),
    [
        ("csv", b"", "the first line of a CSV file names the columns"),
        ("csv", b"a,a\n1,2\n", "names 'a' twice"),
        ("csv", b"a,\n1,2\n", "a column without a name"),
        ("csv", b'"a"x,b\n1,2\n3,4\n', "the header of the dataset cannot be read: line 1: ',' expected after '\"'"),
        ("csv", b"a\n\xff\n", "row 1 or one after it is not UTF-8"),
        ("jsonl", b"x" * (17 << 20), "line 1 is longer than 16 MiB"),
        ("parquet", b"a,b\n1,2\n", "no Parquet file"),
    ],
)
def test_a_file_of_another_format_is_refused(format: str, data: bytes, problem: str) -> None:
    with pytest.raises(sdk.StepError, match=problem):
        read(data, format)


@pytest.mark.parametrize(("format", "head", "row"), [("csv", b"a\n", b'"1"x\n'), ("jsonl", b"", b"{\n")])
def test_a_chunk_has_a_bounded_number_of_unreadable_rows(format: str, head: bytes, row: bytes) -> None:
    chunks = datasets.chunks(io.BufferedReader(Endless(head, row)), format, 100)
    for number in range(3):
        assert [fault.row for fault in next(chunks).faults] == list(range(100 * number + 1, 100 * number + 101))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3), min_size=1, max_size=9), st.integers(1, 10))
def test_a_key_that_is_missing_is_none_in_chunks_of_every_size(rows: list[dict[str, int]], size: int) -> None:
    known: dict[str, None] = {}
    for chunk in read("".join(json.dumps(row) + "\n" for row in rows).encode(), "jsonl", size):
        sent = [rows[number - 1] for number in chunk.frame.index]
        known.update(dict.fromkeys(name for row in sent for name in row))
        assert list(chunk.frame) == list(known)
        assert [dict(zip(known, row, strict=True)) for row in chunk.frame.to_numpy().tolist()] == [
            {name: row.get(name) for name in known} for row in sent
        ]


def test_a_byte_order_mark_and_carriage_returns_are_no_content() -> None:
    [chunk] = read('\ufeffa,b\r\n1,"x\r\ny"\r\n'.encode(), "csv")
    assert chunk.frame.to_dict("list") == {"a": ["1"], "b": ["x\r\ny"]}


def test_messages_show_the_beginning_of_long_names_and_lists() -> None:
    assert str(datasets.Fault(1, "x" * 5_000, "wrong")) == f"row 1, column '{'x' * 100}': wrong"
    assert datasets.listed(["a", "b"]) == "a, b"
    assert datasets.listed([]) == "no columns"
    assert datasets.listed(["y" * 5_000] * 25) == ", ".join(["y" * 100] * 20) + " and 5 more"


def test_missing_values_are_empty_in_csv_and_null_in_json() -> None:
    frame = pandas.DataFrame(
        {"a": [1.5, math.nan], "b": [b"\0\1", None], "c": [pandas.Timestamp("2026-11-30"), pandas.NaT], "d": [[1, 2], None]}
    )
    assert written([frame], "csv") == b'a,b,c,d\n1.5,AAE=,2026-11-30 00:00:00,"[1, 2]"\n,,,\n'
    lines = [json.loads(line) for line in written([frame], "jsonl").splitlines()]
    assert lines == [{"a": 1.5, "b": "AAE=", "c": "2026-11-30T00:00:00", "d": [1, 2]}, {"a": None, "b": None, "c": None, "d": None}]


@pytest.mark.parametrize(
    ("value", "cell", "line"),
    [
        (numpy.arange(1200.0), json.dumps([float(number) for number in range(1200)]), [float(number) for number in range(1200)]),
        (pandas.NA, None, None),
        ([numpy.float32(0.5), pandas.NA], "[0.5, null]", [0.5, None]),
        ({numpy.int64(1): math.nan, "b": b"\0"}, '{"1": null, "b": "AA=="}', {"1": None, "b": "AA=="}),
        (numpy.array([["2026-01-02"]], "datetime64[D]"), '[["2026-01-02"]]', [["2026-01-02"]]),
        (numpy.int16(3), "3", 3),
        ("\u00e4", "\u00e4", "\u00e4"),
        (-math.inf, "-inf", -math.inf),
    ],
)
def test_values_of_numpy_and_pandas_are_written_whole(value: object, cell: str | None, line: object) -> None:
    frame = pandas.DataFrame({"a": pandas.Series([value, "x"], dtype=object)})
    assert read(written([frame], "csv"), "csv")[0].frame["a"].tolist() == [cell, "x"]
    assert read(written([frame], "jsonl"), "jsonl")[0].frame["a"].tolist() == [line, "x"]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_value_without_a_form_in_json_is_refused(format: str) -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(sdk.StepError, match="a value is nested too deeply to be written as JSON"):
        written([pandas.DataFrame({"a": [deep]})], format)


def test_the_columns_of_a_result_stay_the_same() -> None:
    one, other = pandas.DataFrame({"a": [1]}), pandas.DataFrame({"b": [1]})
    for format in ("csv", "parquet"):
        with pytest.raises(sdk.StepError):
            written([one, other], format)
    with pytest.raises(sdk.StepError, match="a Parquet file needs one"):
        written([], "parquet")


@pytest.mark.parametrize(
    ("place", "given", "found"),
    [
        ("rows.csv", "", "csv"),
        ("s3://bucket/rows.NDJSON", "", "jsonl"),
        ("https://example.com/rows.parquet?version=3", "", "parquet"),
        ("rows.txt", "CSV", "csv"),
    ],
)
def test_the_format_follows_from_the_suffix_or_the_input(place: str, given: str, found: str) -> None:
    assert datasets.format_of(place, given, "data") == found
    with pytest.raises(sdk.StepError, match=r"the input 'data' .*use the suffix of one, or the input 'data-format'"):
        datasets.format_of("rows", "", "data")


# The columns of a model


def convert(kind: str, *values: object, required: bool = True, **described: object) -> tuple[list[object], list[str]]:
    signature = features.signature([{"type": kind, "name": "x", "required": required, **described}])
    frame = pandas.DataFrame({"x": values}, index=range(1, len(values) + 1), dtype=object)
    taken, found = features.Inputs(signature).of(frame)
    assert isinstance(taken, pandas.DataFrame)
    return taken["x"].tolist(), [str(fault) for fault in found]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("double", ["1", 2, "-3e-1", 4.5], [1.0, 2.0, -0.3, 4.5]),
        ("long", ["1", 2, 3.0, str(2**62)], [1, 2, 3, 2**62]),
        ("integer", ["-5", 7], [-5, 7]),
        ("boolean", ["true", "False", True], [True, False, True]),
        ("string", ["a", ""], ["a", ""]),
        ("binary", ["AAE=", b"x"], [b"\0\1", b"x"]),
        (
            "datetime",
            ["2026-11-30", "2026-11-30T12:00:00+02:00"],
            [pandas.Timestamp("2026-11-30"), pandas.Timestamp("2026-11-30T10:00:00")],
        ),
        (
            "datetime",
            [datetime.date(2026, 11, 30), datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))],
            [pandas.Timestamp("2026-11-30"), pandas.Timestamp("2026-11-30T10:00:00")],
        ),
        ("float", ["0.5", 3e38, "inf"], [0.5, float(numpy.float32(3e38)), math.inf]),
        ("any", ["a", [1]], ["a", [1]]),
    ],
)
def test_cells_become_values_of_the_type(kind: str, values: list[object], expected: list[object]) -> None:
    assert convert(kind, *values) == (expected, [])


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("double", "one", "row 2, column 'x': 'one' is not a number, such as 0.5"),
        ("double", "1_0", "'1_0' is not a number"),
        ("double", True, "'True' is not a number"),
        ("long", "1.5", "'1.5' is not an integer, such as 8"),
        ("long", None, "it is empty, and the model takes the type long"),
        ("integer", 2**31, "is not an integer from -2147483648 to 2147483647"),
        ("float", "1e300", "'1e300' is not a number that fits into float32"),
        ("boolean", "yes", "'yes' is not true or false"),
        ("string", 5, "'5' is not text"),
        ("datetime", "soon", "'soon' is not a date, such as 2026-11-30"),
        ("datetime", "9999-12-31", "is not a date"),
        ("datetime", "today", "'today' is not a date"),
        ("datetime", "01/02/2026", "'01/02/2026' is not a date"),
        ("datetime", datetime.time(12), "'12:00:00' is not a date"),
        ("datetime", None, "it is empty, and the model takes the type datetime"),
        ("datetime", 5, "'5' is not a date"),
        ("datetime", "NaT", "'NaT' is not a date"),
        ("binary", "?", "'?' is not base64"),
        ("binary", 5, "'5' is not base64"),
        ("object", "{", "'{' is not JSON"),
        ("object", '{"b": 1}', "the object has no property 'b'; it has: a"),
        ("object", {"a": 1.5}, "in 'a': 1.5 is not of the type long"),
    ],
)
def test_a_value_of_another_type_is_a_fault_of_its_row(kind: str, value: object, problem: str) -> None:
    texts = {"string": "a", "datetime": "2026-11-30", "binary": "", "object": '{"a": 1}'}
    good = True if kind == "boolean" else texts.get(kind, 1)
    taken, [found] = convert(kind, good, value, good, properties={"a": {"type": "long"}})
    assert len(taken) == 2
    assert problem in found


@pytest.mark.parametrize(
    ("kind", "described", "text"),
    [
        *(("array", {"items": {"type": kind}}, "[1, 2]") for kind in ("integer", "long", "float", "double")),
        ("array", {"items": {"type": "datetime"}}, '["2026-01-02T03:00:00+01:00"]'),
        ("array", {"items": {"type": "array", "items": {"type": "binary"}}}, '[["AAE="]]'),
        ("object", {"properties": {"a": {"type": "integer"}, "b": {"type": "float", "required": False}}}, '{"a": 1}'),
        ("map", {"values": {"type": "float"}}, '{"a": 0.1}'),
    ],
)
def test_a_nested_value_is_that_of_a_request(kind: str, described: dict[str, Any], text: str) -> None:
    fields = inference.fields([{"type": kind, "name": "x", **described}], "input-0")
    [expected] = decode(tensor("x", "BYTES", [text]), fields=fields)["x"]
    for value in (text, json.loads(text)):
        assert repr(convert(kind, value, **described)) == repr(([expected], []))


def test_nested_bytes_and_dates_of_parquet_stay_what_they_are() -> None:
    described = {"a": {"type": "binary"}, "b": {"type": "datetime"}}
    sent = {"a": b"\0", "b": datetime.datetime(2026, 1, 2)}
    assert convert("object", sent, properties=described) == ([{"a": b"\0", "b": numpy.datetime64("2026-01-02", "ns")}], [])


def test_missing_values_depend_on_the_type() -> None:
    [value], _ = convert("double", None)
    assert isinstance(value, float)
    assert math.isnan(value)
    assert convert("string", None) == ([""], [])
    assert convert("string", None, required=False) == ([None], [])
    assert convert("datetime", None, required=False)[0] == [pandas.NaT]
    assert convert("datetime", None, "today", "2026-01-02", required=False)[0] == [pandas.NaT, pandas.Timestamp("2026-01-02")]
    assert convert("array", None, "null", required=False, items={"type": "long"}) == ([None, None], [])


DATES = st.one_of(
    st.sampled_from(
        ["2026-01-02", "2026-01-02T03:00+02:00", "20260102T030405.123456789Z", "1677-09-21T00:12:43.145225", "2262-04-11 23:47:16Z"]
    ),
    st.sampled_from(
        ["", "soon", "NaT", "9999-12-31", "1600", "2026-02-30", "2026-01-02T25", "2262-04-12", "1677-09-21T00:12:43.145224", 5, True]
    ),
    st.sampled_from([datetime.date(2026, 1, 2), datetime.datetime(9999, 1, 1), datetime.time(1), math.nan, None]),
)


@given(st.lists(DATES, max_size=6), st.booleans())
def test_a_date_is_read_or_refused_whatever_its_column_holds(values: list[object], required: bool) -> None:
    alone = [convert("datetime", value, required=required) for value in values]
    taken, problems = convert("datetime", *values, required=required)
    assert taken == [value for found, _ in alone for value in found]
    assert [problem.partition(",")[2] for problem in problems] == [one.partition(",")[2] for _, found in alone for one in found]


def test_bad_dates_add_no_work_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    read = pandas.to_datetime

    def counted(texts: Any, **how: Any) -> Any:
        calls.append(len(texts))
        return read(texts, **how)

    monkeypatch.setattr(pandas, "to_datetime", counted)
    for bad in ([], ["soon"], [None, "9999-12-31", "2026-02-30", 5]):
        taken, problems = convert("datetime", *["2026-01-02"] * 500, *bad)
        assert (len(taken), len(problems)) == (500, len(bad))
        assert calls == [500 + len(bad)]
        calls.clear()


def test_optional_columns_may_be_absent_and_others_may_not() -> None:
    signature = features.signature([{"type": "double", "name": "a"}, {"type": "double", "name": "b", "required": False}])
    taken, _ = features.Inputs(signature).of(pandas.DataFrame({"id": ["r"], "a": ["1"]}, index=[1], dtype=object))
    assert list(taken) == ["a"]
    with pytest.raises(sdk.StepError, match="no column 'a'; it has b; the model takes a, b"):
        features.Inputs(signature).of(pandas.DataFrame({"b": ["1"]}, index=[1], dtype=object))


def test_a_model_without_a_signature_gets_numbers_and_text_as_in_the_first_chunk() -> None:
    inputs = features.Inputs(features.signature(None), excluded=["y"])
    taken, found = inputs.of(pandas.DataFrame({"a": ["1", "2"], "b": ["x", "3"], "y": ["0", "1"]}, index=[1, 2], dtype=object))
    assert taken.to_dict("list") == {"a": [1.0, 2.0], "b": ["x", "3"]}  # type: ignore[union-attr]
    _, found = inputs.of(pandas.DataFrame({"a": ["z"], "b": ["4"]}, index=[3], dtype=object))
    assert [str(fault) for fault in found] == ["row 3, column 'a': 'z' is not a number, such as 0.5"]


def matrix(*dims: int, dtype: str = "float32") -> list[dict[str, Any]]:
    return [{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(dims)}}]


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
NOT_ONE = "is not an integer, such as 8"


@given(st.sampled_from(INTEGERS), st.lists(st.integers(-(2**65), 2**65), min_size=1, max_size=5), st.data())
def test_integers_of_a_matrix_keep_their_value_or_are_a_fault(dtype: str, values: list[int], data: st.DataObject) -> None:
    limits = numpy.iinfo(dtype)
    values += [data.draw(st.integers(limits.min, limits.max)), limits.min, limits.max, limits.min - 1, limits.max + 1]
    frame = pandas.DataFrame({"a": [str(value) for value in values], "b": values}, index=range(1, len(values) + 1), dtype=object)
    taken, found = features.Inputs(features.signature(matrix(-1, 2, dtype=dtype))).of(frame)
    fit = [value for value in values if limits.min <= value <= limits.max]
    assert taken.dtype == dtype
    assert taken.tolist() == [[value, value] for value in fit]
    assert [values[fault.row - 1] for fault in found] == [value for value in values if value not in fit]


@pytest.mark.parametrize(
    ("dtype", "good", "expected", "wrong", "problem"),
    [
        *((dtype, "8", 8, wrong, problem) for dtype in INTEGERS for wrong, problem in (("1.7", NOT_ONE), ("x", NOT_ONE), (None, "it is empty"))),
        ("uint8", 255, 255, 300, "'300' is not an integer from 0 to 255"),
        ("float16", "0.5", 0.5, "70000", "'70000' is not a number that fits into float16"),
        ("float32", "0.5", 0.5, 1e300, "'1e+300' is not a number that fits into float32"),
        ("float64", "1e300", 1e300, "x", "'x' is not a number"),
        ("bool", "true", True, "1", "'1' is not true or false"),
        ("str", "a", "a", 1, "'1' is not text"),
    ],
)  # fmt: skip
def test_a_matrix_has_the_values_of_the_dataset_or_a_fault(dtype: str, good: object, expected: object, wrong: object, problem: str) -> None:
    frame = pandas.DataFrame({"a": [good, wrong, good]}, index=[1, 2, 3], dtype=object)
    taken, [found] = features.Inputs(features.signature(matrix(-1, 1, dtype=dtype))).of(frame)
    assert isinstance(taken, numpy.ndarray)
    assert taken.tolist() == [[expected], [expected]]
    assert taken.dtype.kind == numpy.dtype(dtype).kind
    assert str(found).startswith("row 2, column 'a': ")
    assert problem in str(found)


def test_missing_numbers_of_a_matrix_are_nan() -> None:
    for dtype in ("float16", "float32", "float64"):
        frame = pandas.DataFrame({"a": [None]}, index=[1], dtype=object)
        taken, found = features.Inputs(features.signature(matrix(-1, 1, dtype=dtype))).of(frame)
        assert (numpy.isnan(taken).tolist(), taken.dtype, found) == ([[True]], dtype, [])
    with pytest.raises(sdk.StepError, match="a matrix of complex64"):
        features.signature(matrix(-1, 1, dtype="complex64"))


def test_a_model_of_a_matrix_gets_the_columns_in_their_order() -> None:
    frame = pandas.DataFrame({"a": ["1"], "b": ["2"]}, index=[1], dtype=object)
    taken, _ = features.Inputs(features.signature(matrix(-1, 2))).of(frame)
    assert isinstance(taken, numpy.ndarray)
    assert (taken.dtype, taken.tolist()) == ("float32", [[1.0, 2.0]])
    with pytest.raises(sdk.StepError, match="takes 3 columns, and the dataset has 2: a, b"):
        features.Inputs(features.signature(matrix(-1, 3))).of(frame)
    with pytest.raises(sdk.StepError, match="no rows of numbers"):
        features.signature(matrix(-1, 28, 28))
    with pytest.raises(sdk.StepError, match="have no names"):
        features.signature([{"type": "double"}])


# Places


def test_a_result_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), places.writing("out.csv", tmp_path) as destination:
        destination.write(b"half")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "before"
    (tmp_path / ".out.csv.partial").write_text("left by a killed attempt")
    with places.writing("out.csv", tmp_path) as destination:
        destination.write(b"whole")
        with pytest.raises(sdk.StepError, match=r"another step writes 'out.csv'"), places.writing("out.csv", tmp_path):
            pass
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"out.csv": "whole"}
    assert destination.digest == "sha256:" + hashlib.sha256(b"whole").hexdigest()


def test_places_stay_in_the_codeset_unless_they_are_urls(tmp_path: Path) -> None:
    codeset = tmp_path / "codeset"
    codeset.mkdir()
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (codeset / "link.csv").symlink_to(tmp_path / "secret.csv")
    (codeset / "folder.csv").mkdir()
    for place, problem in {
        "../secret.csv": "outside the codeset",
        "link.csv": "outside the codeset",
        "/etc/passwd": "outside the codeset",
        "nothing.csv": "No such file",
        "folder.csv": "not a regular file|Is a directory",
        "file://example.com/x.csv": "write file:///absolute/path",
        "ftp://example.com/x.csv": "is no place of a dataset",
        "https://ada:secret@example.com/x.csv": r"\*\*\*@example.com/x.csv: a place holds no account",
        "s3://bucket": "write s3://BUCKET/KEY",
        "s3://[bucket/x.csv": "is no place of a dataset: Invalid IPv6 URL",
        "file://[x.csv": "is no place of a dataset",
        "file:///x%00.csv": "write file:///absolute/path",
        "http://[::1/x.csv": "is no place of a dataset",
        "http://127.0.0.1:1/a b.csv": r"^GET http://127.0.0.1:1/a b.csv: no answer \(URL can't contain control characters",
        "http://127.0.0.1:1/\u00e4.csv": "no answer .*ascii",
        "http://127.0.0.1:port/x.csv": "no answer .*nonnumeric port",
        "http:///x.csv": r"no answer \(no host given\)",
    }.items():
        with pytest.raises(sdk.StepError, match=problem), places.reading(place, codeset):
            pass
    for place in ("../out.csv", "link.csv", "https://example.com/x.csv", "s3://bucket/"):
        with pytest.raises(sdk.StepError), places.writing(place, codeset):
            pass
    with places.reading((tmp_path / "secret.csv").as_uri(), codeset) as file:
        assert file.read() == b"a\n1\n"
    with places.writing((tmp_path / "new" / "out.csv").as_uri(), codeset) as destination:
        destination.write(b"x")
    assert (tmp_path / "new" / "out.csv").read_bytes() == b"x"
