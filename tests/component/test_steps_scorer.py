"""The scorer step with models of scikit-learn: formats, chunks, invalid rows, places, and results that appear whole or not at all."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import s3_servers
from tests.waiting import PATIENCE, wait_until

from . import scoring, steps

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> scoring.Models:
    return scoring.save(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A codeset with ten rows of `id`, `a` and `b`."""
    lines = [f"r{index},{a},{b}" for index, (a, b) in enumerate(scoring.ROWS[:10])]
    return steps.codeset(tmp_path / "wine", rows__csv="\n".join(["id,a,b", *lines]) + "\n")


def expected(models: scoring.Models, count: int = 10) -> list[float]:
    import pandas

    return list(models.exact.predict(pandas.DataFrame(scoring.ROWS[:count], columns=["a", "b"])))


def test_rows_keep_their_order_and_text_and_get_the_prediction(
    models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = scoring.run("scorer", folder, capsys, model=str(models.regression), data="rows.csv", output="out/scored.csv", chunk_rows="3")
    assert (ended.code, ended.err.count("\n")) == (0, 0), ended.err
    header, *lines = (folder / "out" / "scored.csv").read_text().splitlines()
    assert header == "id,a,b,prediction"
    assert [line.rpartition(",")[0] for line in lines] == (folder / "rows.csv").read_text().splitlines()[1:]
    assert [float(line.rpartition(",")[2]) for line in lines] == pytest.approx(expected(models))
    assert "10 rows in 4 chunks: out/scored.csv" in ended.out
    assert (ended.outputs["dataset"], ended.outputs["uri"], ended.outputs["rows"]) == ("out/scored.csv", "out/scored.csv", "10")
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["scored.csv"]


def test_the_result_depends_on_the_content_only(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = {
        scoring.run("scorer", folder, capsys, model=str(models.regression), data="rows.csv", output="out.csv", chunk_rows=rows).outputs[
            "digest"
        ]
        for rows in ("1", "4", "10000")
    }
    assert len(results) == 1


@pytest.mark.parametrize(
    ("columns", "names"),
    [("all", ["id", "a", "b", "p"]), ("none", ["p"]), ("id, b", ["id", "b", "p"])],
)
def test_formats_and_columns_of_the_result(
    columns: str, names: list[str], models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas

    common = {"model": str(models.regression), "prediction": "p", "columns": columns, "chunk_rows": "4"}
    # Each result of the whole rows is the next dataset.
    for source, target in (("rows.csv", "two.jsonl"), ("rows.csv", "three.parquet")):
        ended = scoring.run("scorer", folder, capsys, data=source, output=target, **common)
        assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (folder / "two.jsonl").read_text().splitlines()]
    table = pandas.read_parquet(folder / "three.parquet")
    assert [list(lines[0]), list(table.columns)] == [names, names]
    assert [line["p"] for line in lines] == pytest.approx(expected(models))
    assert table["p"].tolist() == pytest.approx(expected(models))
    if "b" in names:
        assert [line["b"] for line in lines] == table["b"].tolist() == [b for _, b in scoring.ROWS[:10]]
        assert table["b"].dtype == "int64"
    if columns == "all":
        for source in ("two.jsonl", "three.parquet"):
            again = scoring.run("scorer", folder, capsys, data=source, output="again.csv", **{**common, "prediction": "q", "columns": "id"})
            assert again.code == 0, again.err
            assert [float(line.split(",")[1]) for line in (folder / "again.csv").read_text().splitlines()[1:]] == pytest.approx(
                expected(models)
            )


def test_an_invalid_row_stops_the_step_and_leaves_nothing(models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.csv").write_text("id,a,b\nr0,1,2\nr1,1,2.5\nr2,1,2\n")
    ended = scoring.run("scorer", folder, capsys, model=str(models.regression), data="rows.csv", output="out.csv", chunk_rows="1")
    assert ended.code == 1
    assert ended.err == (
        "rows.csv: row 2, column 'b': '2.5' is not an integer, such as 8: correct it, or skip such rows with the input 'on-error: skip'\n"
    )
    assert sorted(file.name for file in folder.iterdir()) == ["rows.csv"]
    assert ended.outputs == {}


def test_invalid_rows_are_skipped_and_listed_up_to_a_bound(
    models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rows.csv").write_text("id,a,b\nr0,1,2\nr1,x,y\nr2\nr3,4,1\n")
    common = {"model": str(models.regression), "data": "rows.csv", "output": "out.csv", "FUSEML_ON_ERROR": "skip"}
    ended = scoring.run("scorer", folder, capsys, chunk_rows="2", **common)
    assert (ended.code, ended.outputs["rows"], ended.outputs["skipped"], ended.outputs["errors"]) == (0, "2", "2", "out.csv.errors.jsonl")
    assert [line.split(",")[0] for line in (folder / "out.csv").read_text().splitlines()] == ["id", "r0", "r3"]
    assert [json.loads(line) for line in (folder / "out.csv.errors.jsonl").read_text().splitlines()] == [
        {"row": 2, "column": "a", "problem": "'x' is not a number, such as 0.5"},
        {"row": 3, "column": None, "problem": "line 4 has 1 fields, and the header has 3"},
    ]
    (folder / "out.csv").unlink()
    (folder / "out.csv.errors.jsonl").unlink()
    refused = scoring.run("scorer", folder, capsys, FUSEML_MAX_ERRORS="1", **common)
    assert refused.code == 1
    assert "more than 1 rows are invalid (input 'max-errors'); the last one is row 3: line 4 has 1 fields" in refused.err
    assert sorted(file.name for file in folder.iterdir()) == ["rows.csv"]


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"data": "none.csv"}, "cannot read 'none.csv': No such file or directory"),
        ({"data": "rows.txt"}, "the input 'data' ('rows.txt'): its format must be one of csv, jsonl, parquet"),
        ({"output": "../out.csv"}, "'../out.csv' is outside the codeset"),
        ({"output": "https://example.com/out.csv"}, "cannot hold a result"),
        ({"columns": "id,c"}, "the input 'columns' names 'c', and the dataset has id, a, b"),
        ({"prediction": "id"}, "the dataset has a column 'id' already"),
        ({"FUSEML_ON_ERROR": "ignore"}, "must be stop or skip, not 'ignore'"),
        ({"chunk_rows": "0"}, "the input 'chunk-rows' must be a whole number of at least 1, not '0'"),
        ({"name": "a b"}, "the input 'name' is 'a b'"),
        ({"model": "nowhere"}, "cannot load nowhere: "),
    ],
)
def test_an_invalid_input_is_reported_in_one_line(
    inputs: dict[str, str], problem: str, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = scoring.run("scorer", folder, capsys, **{"model": str(models.regression), "data": "rows.csv", "output": "out.csv", **inputs})
    assert (ended.code, ended.outputs) == (1, {})
    assert problem in ended.err.splitlines()[-1]
    assert sorted(file.name for file in folder.iterdir()) == ["rows.csv"]


def test_a_dataset_at_an_absolute_place_is_an_artifact(
    models: scoring.Models, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = (tmp_path / "elsewhere" / "scored.csv").as_uri()
    runs = [scoring.run("scorer", folder, capsys, model=str(models.regression), data="rows.csv", output=place) for _ in range(2)]
    assert runs[0].outputs == runs[1].outputs, "a retry gives the same artifact"
    digest = runs[0].outputs["digest"].removeprefix("sha256:")
    assert runs[0].outputs["dataset"] == f"dataset://workspace/scored/{digest[:12]}"
    assert runs[0].outputs["uri"] == place


SLOW = """
import pathlib, time

class Slow:
    def predict(self, data):
        pathlib.Path("begun").touch()
        while not pathlib.Path("gate").exists():
            time.sleep(0.02)
        return data["a"] * 2

def _load_pyfunc(path):
    return Slow()
"""


def test_a_killed_step_leaves_no_result_and_a_retry_completes_it(tmp_path: Path) -> None:
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "slow_scoring.py").write_text(SLOW)
    (tmp_path / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: slow_scoring, code: code}}\n")
    folder = steps.codeset(tmp_path / "codeset", rows__csv="a\n1\n2\n3\n", out__csv="before\n")
    inputs = {"FUSEML_MODEL": str(tmp_path / "model"), "FUSEML_DATA": "rows.csv", "FUSEML_OUTPUT": "out.csv", "FUSEML_CHUNK_ROWS": "1"}
    for number in (signal.SIGTERM, signal.SIGKILL):
        variables = steps.environment(folder, inputs)
        with subprocess.Popen(steps.command("scorer"), cwd=folder, env=variables, stderr=subprocess.DEVNULL) as process:
            wait_until((folder / "begun").exists, "the first chunk")
            process.send_signal(number)
            process.wait(PATIENCE)
        assert (folder / "out.csv").read_text() == "before\n"
        assert not steps.results_of(folder).exists()
        assert bool(list(folder.glob(".*"))) is (number == signal.SIGKILL)
        (folder / "begun").unlink()
    (folder / "gate").touch()
    ended = steps.run("scorer", folder, **inputs)
    assert ended.code == 0, ended.err
    assert (folder / "out.csv").read_text() == "a,prediction\n1,2.0\n2,4.0\n3,6.0\n"
    assert not list(folder.glob(".*"))


# Servers


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def account(server: s3_servers.Server, *, reader: bool = False) -> dict[str, str]:
    keys = server.reader if reader else server.account
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_REGION": "us-east-1",
        "S3_ENDPOINT_URL": server.url,
    }


def client(server: s3_servers.Server) -> Any:
    import boto3.session

    keys = account(server)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )


def test_a_dataset_in_s3_is_read_and_written_in_parts(
    s3: s3_servers.Server, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, result = f"s3://{s3_servers.BUCKET}/in/rows.csv", f"s3://{s3_servers.BUCKET}/out/rows.csv"
    filler = "x" * 1000  # each row goes into the result, so that it needs several parts
    rows = "".join(f"{filler},{a},{b}\n" for a, b in scoring.ROWS * 250)
    client(s3).put_object(Bucket=s3_servers.BUCKET, Key="in/rows.csv", Body=f"id,a,b\n{rows}".encode())
    ended = scoring.run("scorer", folder, capsys, model=str(models.regression), data=data, output=result, chunk_rows="900", **account(s3))
    assert ended.code == 0, ended.err
    assert (ended.outputs["rows"], ended.outputs["dataset"].rpartition("/")[0]) == ("10000", "dataset://workspace/rows")
    head = client(s3).head_object(Bucket=s3_servers.BUCKET, Key="out/rows.csv")
    assert head["ETag"].strip('"').endswith("-2"), "it was uploaded in two parts"
    again = scoring.run(
        "scorer",
        folder,
        capsys,
        model=str(models.regression),
        data=result,
        output="again.csv",
        columns="none",
        prediction="p",
        **account(s3),
    )
    assert (again.code, again.outputs["rows"]) == (0, "10000")


def test_a_failure_leaves_no_object_and_no_unfinished_upload(
    s3: s3_servers.Server, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "rows.csv").open("w") as file:
        file.write("id,a,b\n" + f"{'x' * 1000},1,2\n" * 9000 + "y,1,wrong\n")
    result = f"s3://{s3_servers.BUCKET}/broken.csv"
    ended = scoring.run(
        "scorer", folder, capsys, model=str(models.regression), data="rows.csv", output=result, chunk_rows="900", **account(s3)
    )
    assert (ended.code, "row 9001, column 'b'" in ended.err) == (1, True)
    assert (s3.unfinished(), client(s3).list_objects_v2(Bucket=s3_servers.BUCKET, Prefix="broken")["KeyCount"]) == (0, 0)


@pytest.mark.parametrize(
    ("data", "output", "problem"),
    [
        ("s3://fuseml/none.csv", "out.csv", "cannot read s3://fuseml/none.csv (AccessDenied): check the place, and the account"),
        ("rows.csv", "s3://fuseml/out.csv", "cannot write s3://fuseml/out.csv (AccessDenied)"),
    ],
)
def test_a_refusal_of_s3_is_one_line_without_secrets(
    data: str, output: str, problem: str, s3: s3_servers.Server, models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = account(s3, reader=True)
    ended = scoring.run("scorer", folder, capsys, model=str(models.regression), data=data, output=output, **variables)
    assert ended.code == 1
    assert problem in ended.err
    assert variables["AWS_SECRET_ACCESS_KEY"] not in ended.err + ended.out


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves five rows; at `/short.csv` it announces more bytes than it sends, at `/reset.csv` it sends none."""

    def do_GET(self) -> None:
        body = b"a,b\n" + b"1,2\n" * 5
        if self.path == "/reset.csv":
            return  # the end of the connection without a response
        if self.path == "/none.csv":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (100 if self.path == "/short.csv" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@contextlib.contextmanager
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_dataset_from_the_web_is_read_to_its_announced_end(
    models: scoring.Models, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with web() as url:
        good, short, none, reset = (
            scoring.run("scorer", folder, capsys, model=str(models.regression), data=f"{url}/{name}.csv", output=f"{name}.csv")
            for name in ("good", "short", "none", "reset")
        )
    assert (good.code, good.outputs["rows"]) == (0, "5")
    assert (short.code, short.err) == (1, f"{url}/short.csv: reading broke off: HTTPException: 100 bytes are missing\n")
    assert (none.code, none.err) == (1, f"GET {url}/none.csv: 404: Not Found\n")
    assert reset.code == 1
    assert reset.err == f"GET {url}/reset.csv: no answer (Remote end closed connection without response)\n"
    assert not (folder / "short.csv").exists()


def test_a_failing_model_is_named_with_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "odd_scoring.py").write_text(
        "class Odd:\n def predict(self, data):\n  if data['a'].max() > 3: raise OSError('no sensor')\n  return [1]\n\n"
        "def _load_pyfunc(path): return Odd()\n"
    )
    (tmp_path / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: odd_scoring, code: code}}\n")
    folder = steps.codeset(tmp_path / "codeset", rows__csv="a\n1\n4\n", two__csv="a\n1\n2\n")
    common = {"model": str(tmp_path / "model"), "output": "out.csv"}
    failed = scoring.run("scorer", folder, capsys, data="rows.csv", chunk_rows="1", **common)
    assert failed.err.splitlines()[-1] == "the model failed on the rows 2 to 2: OSError: no sensor"
    odd = scoring.run("scorer", folder, capsys, data="two.csv", **common)
    assert odd.err.splitlines()[-1] == "the model gave 1 predictions for the rows 1 to 2, which are 2"
    assert not (folder / "out.csv").exists()
    assert os.listdir(folder) != []
