"""Formats of datasets: CSV with a header, JSON Lines with an object a line, and Parquet where pyarrow is installed.

Rows are read and written in chunks, so that memory holds one chunk however long the dataset is. Rows are numbered from 1; the header of a CSV file
does not count. Cells are the text of CSV, or the values of JSON and Parquet; an empty cell of CSV and a missing key are None.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy
import pandas

from fuseml.steps import sdk
from fuseml.steps.inference import nested
from fuseml.steps.scoring import places

FORMATS = {"csv": (".csv",), "jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet",)}
_LONGEST_LINE = 16 << 20
_SHOWN = 100  # characters of a name in a message
_LISTED = 20


@dataclass(frozen=True)
class Fault:
    """An invalid row: its number, the column if the fault is in one, and the problem."""

    row: int
    column: str
    problem: str

    def __str__(self) -> str:
        return f"row {self.row}{f', column {self.column[:_SHOWN]!r}' if self.column else ''}: {self.problem}"


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows as a frame of cells, whose index holds their numbers, without the rows of `faults`, which cannot be read."""

    frame: pandas.DataFrame
    faults: Sequence[Fault] = ()


def listed(names: Iterable[object]) -> str:
    """Names of columns for a message: the first ones, shortened."""
    texts = [str(name)[:_SHOWN] for name in names]
    return ", ".join(texts[:_LISTED]) + (f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else "") or "no columns"


def format_of(place: str, given: str, subject: str) -> str:
    """The format `given`, else that of the place's suffix. Raises StepError, whose message begins with the input `subject`."""
    path = place.partition("?")[0].lower()
    found = given.lower() or next((name for name, suffixes in FORMATS.items() if path.endswith(suffixes)), "")
    if found not in FORMATS:
        raise sdk.StepError(
            f"the input '{subject}' ('{sdk.redact(place)}'): its format must be one of {', '.join(FORMATS)}: "
            f"use the suffix of one, or the input '{subject}-format'"
        )
    return found


def chunks(file: BinaryIO, format: str, size: int) -> Iterator[Chunk]:
    """The dataset in chunks of at most `size` rows. Raises StepError for a file that is not in the format at all."""
    return {"csv": _csv_chunks, "jsonl": _json_chunks, "parquet": _parquet_chunks}[format](file, size)


def _csv_chunks(file: BinaryIO, size: int) -> Iterator[Chunk]:
    reader = csv.reader((line.decode() for line in _lines(file)), strict=True)
    columns: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    faults: list[Fault] = []
    number = 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            if not columns:
                raise sdk.StepError(f"the header of the dataset cannot be read: line {reader.line_num}: {error}") from None
            number += 1
            faults.append(Fault(number, "", f"line {reader.line_num}: {error}"))
            record = []
        except UnicodeDecodeError:
            raise sdk.StepError(f"row {number + 1} or one after it is not UTF-8 text: convert the dataset to UTF-8") from None
        if record is not None and not columns:
            columns = _header(record)
            continue
        if record:
            number += 1
            if len(record) == len(columns):
                numbers.append(number)
                rows.append(record)
            else:
                faults.append(Fault(number, "", f"line {reader.line_num} has {len(record)} fields, and the header has {len(columns)}"))
        if record is None or len(rows) + len(faults) >= size:
            if rows or faults:
                values = {name: [row[index] or None for row in rows] for index, name in enumerate(columns)}
                yield Chunk(_frame(values, numbers), tuple(faults))
            numbers, rows, faults = [], [], []
        if record is None:
            if not columns:
                raise sdk.StepError("the dataset is empty: the first line of a CSV file names the columns")
            return


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of the file, without its byte order mark. Raises StepError for a line beyond the bound."""
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise sdk.StepError(f"line {number} is longer than {_LONGEST_LINE >> 20} MiB: a dataset in CSV or JSON Lines has a row a line")
        yield line[len(codecs.BOM_UTF8) :] if number == 1 and line.startswith(codecs.BOM_UTF8) else line


def _header(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not all(names):
        raise sdk.StepError(
            f"the header of the dataset {f'names {repeated[0][:_SHOWN]!r} twice' if repeated else 'has a column without a name'}"
        )
    return names


def _json_chunks(file: BinaryIO, size: int) -> Iterator[Chunk]:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    columns: dict[str, None] = {}  # of all rows so far
    number = 0
    for line in itertools.chain(_lines(file), [b""]):
        if line.strip():
            number += 1
            record, problem = _object(line)
            if problem:
                faults.append(Fault(number, "", problem))
            else:
                numbers.append(number)
                rows.append(record)
        if (not line or len(rows) + len(faults) >= size) and (rows or faults):
            columns.update(dict.fromkeys(name for row in rows for name in row))
            yield Chunk(_frame({name: [row.get(name) for row in rows] for name in columns}, numbers), tuple(faults))
            numbers, rows, faults = [], [], []


def _object(line: bytes) -> tuple[dict[str, Any], str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"it is not JSON: {error}"
    if not isinstance(record, dict):
        return {}, "it is no JSON object"
    try:
        "".join(record).encode()
    except UnicodeEncodeError:
        return {}, "the name of a value holds half a character"
    return record, ""


def _parquet_chunks(file: BinaryIO, size: int) -> Iterator[Chunk]:
    pyarrow, parquet = _pyarrow()
    with tempfile.TemporaryFile() as copy:
        if not file.seekable():  # its index is at the end
            shutil.copyfileobj(file, copy, 1 << 20)
            file = copy
        try:
            first = 1
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=size):
                values = dict(zip(batch.schema.names, (column.to_pylist() for column in batch.columns)))  # noqa: B905 (Python 3.8)
                yield Chunk(_frame(values, range(first, first + batch.num_rows)))
                first += batch.num_rows
        except pyarrow.ArrowException as error:
            raise sdk.StepError(f"the dataset is no Parquet file: {error}") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise sdk.StepError(
            "the format parquet needs the package pyarrow in the environment of the step: add it to the codeset's"
        ) from None
    return pyarrow, pyarrow.parquet


def _frame(values: dict[str, list[Any]], numbers: Iterable[int]) -> pandas.DataFrame:
    return pandas.DataFrame(values, index=pandas.Index(list(numbers)), dtype=object)


class Writer:
    """Writes frames of the same columns in one format. `end` completes the dataset."""

    def __init__(self, destination: places.Destination, format: str) -> None:
        self._destination, self._format = destination, format
        self._columns: list[str] | None = None
        self._parquet: Any = None

    def write(self, frame: pandas.DataFrame) -> None:
        """Append rows. Raises StepError for other columns than before."""
        columns = [str(name) for name in frame.columns]
        is_first = self._columns is None
        if is_first:
            self._columns = columns
        elif self._columns != columns and self._format != "jsonl":
            raise sdk.StepError(f"the columns {listed(columns)} differ from the first ones, {listed(self._columns or [])}")
        if self._format == "parquet":
            self._write_parquet(frame)
            return
        rows = zip(*(frame[name].tolist() for name in frame.columns))  # noqa: B905 (Python 3.8)
        try:
            text = _csv_text(columns, rows, is_first) if self._format == "csv" else _json_text(columns, rows)
        except RecursionError:
            raise sdk.StepError("a value is nested too deeply to be written as JSON") from None
        self._destination.write(text.encode("utf-8", "surrogatepass"))

    def end(self) -> None:
        """Write the end of the dataset. Raises StepError for a Parquet dataset without rows, whose types are unknown."""
        if self._format == "parquet":
            if self._parquet is None:
                raise sdk.StepError("no row is left, and a Parquet file needs one to fix the types of its columns")
            self._parquet.close()

    def _write_parquet(self, frame: pandas.DataFrame) -> None:
        pyarrow, parquet = _pyarrow()
        try:
            if self._parquet is None:
                table = pyarrow.Table.from_pandas(frame, preserve_index=False)
                self._parquet = parquet.ParquetWriter(self._destination, table.schema)
            else:
                table = pyarrow.Table.from_pandas(frame, schema=self._parquet.schema, preserve_index=False)
            self._parquet.write_table(table)
        except pyarrow.ArrowException as error:
            raise sdk.StepError(
                f"the rows cannot be written as Parquet, whose columns have the types of the first rows: {error}"
            ) from error


def _csv_text(columns: list[str], rows: Iterable[Sequence[Any]], with_header: bool) -> str:
    text = io.StringIO(newline="")
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for cells in itertools.chain([columns] if with_header else [], ([_cell(value) for value in row] for row in rows)):
        # The writer leaves a carriage return unquoted, which no reader takes.
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)
    return text.getvalue()


def _json_text(columns: list[str], rows: Iterable[Sequence[Any]]) -> str:
    return "".join(nested.text(dict(zip(columns, row)), ascii=False) + "\n" for row in rows)  # noqa: B905 (Python 3.8)


def _cell(value: Any) -> Any:
    if nested.is_null(value):
        return ""
    if isinstance(value, (list, tuple, dict, numpy.ndarray)):
        return nested.text(value)
    return nested.encoded(value) if isinstance(value, (bytes, bytearray, numpy.generic)) else value
