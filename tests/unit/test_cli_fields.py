"""Formats of output beside tables, and `--field`, which chooses columns and fields."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.cli import fields, main
from tests.component import canned_api
from tests.component.canned_api import CannedApi
from tests.unit.test_cli import one_line, variables


@pytest.fixture(scope="module")
def server() -> Iterator[CannedApi]:
    with canned_api.serve() as running:
        yield running


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


def test_text_is_the_table_and_csv_has_every_field_of_the_api(
    server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("run list", "run get mlflow-e2e-1"):
        assert fuseml(server, tmp_path, command) == 0
        table = capsys.readouterr().out
        assert fuseml(server, tmp_path, f"{command} --format text") == 0
        assert capsys.readouterr().out == table
        assert fuseml(server, tmp_path, f"{command} --format csv") == 0
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert row.keys() == canned_api.RUN.keys()
        assert (row["name"], row["cause"], json.loads(row["steps"])) == ("mlflow-e2e-1", "", canned_api.RUN["steps"])


CHOSEN = [
    ("run list --field name --field state", {"name": "mlflow-e2e-1", "state": "succeeded"}),
    ("run list --field steps.name", {"steps.name": ["trainer", "predictor"]}),
    ("run get mlflow-e2e-1 --field trigger:kind", {"trigger:kind": "assignment"}),
    ("project list --field NAME --field users:email", {"NAME": "demo", "users:email": ["ada@example.org"]}),
    ("extension list --field services.endpoints.url", {"services.endpoints.url": ["http://127.0.0.1:5000"]}),
]


@pytest.mark.parametrize(("line", "expected"), CHOSEN, ids=[line for line, _ in CHOSEN])
def test_fields_are_chosen_in_every_format(
    line: str, expected: dict[str, object], server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [expected] if " list " in line else expected
    assert fuseml(server, tmp_path, f"{line} -o json") == 0
    assert json.loads(capsys.readouterr().out) == whole
    assert fuseml(server, tmp_path, f"{line} -o yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == whole
    assert fuseml(server, tmp_path, f"{line} -o csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == ",".join(expected)
    assert fuseml(server, tmp_path, line) == 0
    shown = capsys.readouterr().out
    for name, value in expected.items():
        assert name.upper() in shown.upper()
        assert str(value[0] if isinstance(value, list) and isinstance(value[0], str) else value).strip("[]'") in shown


def test_a_column_of_the_table_may_be_chosen(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "run list --field Duration --field Version") == 0
    assert capsys.readouterr().out.split() == ["DURATION", "VERSION", "1m04s", "3f2a91c4"]
    # The choice of one command line does not reach the next one.
    assert fuseml(server, tmp_path, "run list") == 0
    assert "STATE" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_an_unknown_field_is_refused_with_those_that_exist(
    format: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, f"run list --field nonsense -o {format}") == 1
    message = one_line(capsys)
    assert "there is no field 'nonsense'; there are: " in message
    assert "caused_by" not in message
    assert "workflow" in message


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]))


@given(st.lists(st.fixed_dictionaries({"name": TEXTS, "size": st.integers(), "parts": st.lists(TEXTS)}), min_size=1))
def test_comma_separated_values_are_read_as_they_were(items: list[dict[str, object]]) -> None:
    rows = list(csv.DictReader(io.StringIO(fields.csv_text(items))))
    assert [{**row, "size": int(row["size"]), "parts": json.loads(row["parts"])} for row in rows] == items


def test_an_empty_list_has_no_rows() -> None:
    assert fields.csv_text([]) == ""
