"""Scorer step (`ghcr.io/fuseml/scorer`): predicts every row of a dataset with a model, and writes the rows with their predictions.

Inputs: FUSEML_MODEL (model URI, or `model://PROJECT/NAME/VERSION`), FUSEML_DATA and FUSEML_OUTPUT (places: a path of the codeset, file://, s3://;
data also http(s)://). Optional: FUSEML_DATA_FORMAT and FUSEML_OUTPUT_FORMAT (csv, jsonl, parquet; default by suffix), FUSEML_COLUMNS (columns of
the dataset in the result: `all`, `none`, or names separated by commas; default `all`), FUSEML_PREDICTION (name of the prediction's column,
default `prediction`), FUSEML_ON_ERROR (`stop` at the first invalid row, the default, or `skip` such rows), FUSEML_ERRORS (place of the list of
skipped rows, default `<output>.errors.jsonl`), FUSEML_MAX_ERRORS (most rows to skip, default 1000), FUSEML_CHUNK_ROWS (default 10000),
FUSEML_NAME (of the dataset as an artifact, default the file name of the output).

Outputs: `dataset` and the first declared one (`dataset://PROJECT/NAME/DIGEST`, or the path of a result in the codeset), `uri` (its place),
`rows`, `skipped`, `digest` (SHA-256 of the bytes). The result keeps the order of the rows, and appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from fuseml.steps import sdk
from fuseml.steps.scoring import datasets, features, places, predictions

_REPORT_EVERY = 10.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DIGITS = 9
_ADDRESSED = 12  # hexadecimal digits of the digest in an address


@dataclass(frozen=True)
class Request:
    """The inputs of the step."""

    model: str
    data: str
    data_format: str
    output: str
    output_format: str
    columns: str
    prediction: str
    errors: str
    max_errors: int
    rows: int

    @property
    def skips(self) -> bool:
        """Whether invalid rows are skipped."""
        return bool(self.errors)


@dataclass
class Tally:
    """The numbers of scored and skipped rows, and of chunks."""

    rows: int = 0
    skipped: int = 0
    chunks: int = 0


def main() -> None:
    """Score the dataset."""
    signal.signal(signal.SIGTERM, _stopped)
    request, folder, tally = _request(), Path.cwd(), Tally()
    name = sdk.input("name", Path(request.output).name.partition(".")[0])
    if not _NAME.fullmatch(name):
        raise sdk.StepError(f"the input 'name' is '{name}': use letters, digits, '-', '_' and '.'")
    uri = predictions.uri_of(request.model)
    model = predictions.load(uri)
    inputs = features.Inputs(features.signature(predictions.schema_of(model)))
    sdk.say(f"scoring {sdk.redact(request.data)} with {uri}")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(places.reading(request.data, folder))
        destination = stack.enter_context(places.writing(request.output, folder))
        skip = stack.enter_context(_skipped_rows(request, folder, tally))
        writer = datasets.Writer(destination, request.output_format)
        for frame in _scored(request, model, inputs, datasets.chunks(source, request.data_format, request.rows), skip, tally):
            writer.write(frame)
        writer.end()
    _report(request, name, destination.digest, tally)


def _stopped(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _request() -> Request:
    data, output, on_error = sdk.input("data"), sdk.input("output"), sdk.input("on-error", "stop")
    if on_error not in ("stop", "skip"):
        raise sdk.StepError(f"the input 'on-error' must be stop or skip, not '{on_error}'")
    return Request(
        model=sdk.input("model"),
        data=data,
        data_format=datasets.format_of(data, sdk.input("data-format", ""), "data"),
        output=output,
        output_format=datasets.format_of(output, sdk.input("output-format", ""), "output"),
        columns=sdk.input("columns", "all"),
        prediction=sdk.input("prediction", "prediction"),
        errors=sdk.input("errors", f"{output}.errors.jsonl") if on_error == "skip" else "",
        max_errors=_count("max-errors", "1000", 0),
        rows=_count("chunk-rows", "10000", 1),
    )


def _count(name: str, default: str, least: int) -> int:
    text = sdk.input(name, default)
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < least:
        raise sdk.StepError(f"the input '{name}' must be a whole number of at least {least}, not '{text}'")
    return int(text)


class _Skip:
    """Takes the faults of a chunk: refuses the first, or lists them up to the bound."""

    def __init__(self, request: Request, tally: Tally, destination: places.Destination | None) -> None:
        self._request, self._tally, self._destination = request, tally, destination

    def __call__(self, faults: Sequence[datasets.Fault]) -> None:
        data = sdk.redact(self._request.data)
        if faults and self._destination is None:
            raise sdk.StepError(f"{data}: {faults[0]}: correct it, or skip such rows with the input 'on-error: skip'")
        for fault in faults:
            self._tally.skipped += 1
            if self._tally.skipped > self._request.max_errors:
                raise sdk.StepError(
                    f"{data}: more than {self._request.max_errors} rows are invalid (input 'max-errors'); the last one is {fault}"
                )
            line = {"row": fault.row, "column": fault.column or None, "problem": fault.problem}
            if self._destination is not None:
                self._destination.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


@contextlib.contextmanager
def _skipped_rows(request: Request, folder: Path, tally: Tally) -> Iterator[_Skip]:
    if not request.skips:
        yield _Skip(request, tally, None)
        return
    with places.writing(request.errors, folder) as destination:
        yield _Skip(request, tally, destination)


def _scored(
    request: Request, model: Any, inputs: features.Inputs, chunks: Iterator[datasets.Chunk], skip: _Skip, tally: Tally
) -> Iterator[pandas.DataFrame]:
    """The rows of the result, a frame for each chunk."""
    reported = time.monotonic()
    for chunk in chunks:
        taken, faults = inputs.of(chunk.frame) if len(chunk.frame) else (None, [])
        invalid = {fault.row for fault in faults}
        skip(sorted([*chunk.faults, *faults], key=lambda fault: fault.row))
        valid = chunk.frame[[number not in invalid for number in chunk.frame.index]] if invalid else chunk.frame
        tally.chunks += 1
        if taken is None or valid.empty:
            continue
        predicted = predictions.predict(model, taken, valid.index, request.prediction)
        tally.rows += len(valid)
        yield _result(request, valid, taken, predicted)
        if time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            sdk.say(f"{tally.rows} rows are scored")


def _result(request: Request, rows: pandas.DataFrame, taken: object, predicted: pandas.DataFrame) -> pandas.DataFrame:
    """The chosen columns and the prediction. Cells of CSV keep their text in CSV, and have the model's types in other formats."""
    if request.columns == "none":
        return predicted
    names = list(rows.columns) if request.columns == "all" else [name.strip() for name in request.columns.split(",")]
    missing = [name for name in names if name not in rows.columns]
    if missing:
        raise sdk.StepError(f"the input 'columns' names {missing[0]!r}, and the dataset has {datasets.listed(rows.columns)}")
    repeated = [name for name in predicted.columns if name in names]
    if repeated:
        raise sdk.StepError(f"the dataset has a column {repeated[0]!r} already: name that of the prediction in the input 'prediction'")
    kept = rows[names]
    if request.output_format != "csv" and isinstance(taken, pandas.DataFrame):
        typed = {str(column): taken[column] for column in taken.columns}
        kept = pandas.DataFrame({name: typed.get(name, rows[name]) for name in names}, index=rows.index)
    return pandas.concat([kept, predicted], axis=1)


def _report(request: Request, name: str, digest: str, tally: Tally) -> None:
    project = sdk.context().project
    dataset = (
        f"dataset://{project}/{name}/{digest.partition(':')[2][:_ADDRESSED]}" if "://" in request.output and project else request.output
    )
    outputs = {
        "uri": request.output,
        "rows": str(tally.rows),
        "skipped": str(tally.skipped),
        "digest": digest,
        **({"errors": request.errors} if request.skips else {}),
    }
    for key, value in outputs.items():
        sdk.output(key, value)
    for key in {"dataset", sdk.first_output("dataset")} - set(outputs):
        sdk.output(key, dataset)
    skipped = f", {tally.skipped} skipped (see {request.errors})" if tally.skipped else ""
    sdk.say(f"{tally.rows} rows in {tally.chunks} chunks{skipped}: {request.output}")


if __name__ == "__main__":
    sdk.run(main)
