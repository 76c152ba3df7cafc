"""Hostile text on its way to a terminal: every view prints it inert, and JSON and YAML keep its value."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import json
import pathlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml import cli
from fuseml.cli import failure, output, progress, terminal
from fuseml.domain import errors

HOSTILE = [
    "\x1b]52;c;aGk=\x07",
    "\x1b[2J",
    "\x9b31m",
    "\x1b[31mred",
    "\u202eevil",
    "\x9d52;c;aGk=\x9c",
    "\rover",
    "\x7f\x08",
    "\u2066x",
    "\x1bP$q\x1b\\",
]
ACTIVE = {
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f",
    *map(chr, range(0x2028, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
}
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), min_size=1, max_size=4).map("".join)
VIEWS = sorted(
    (module.name, name)
    for module in pkgutil.walk_packages(cli.__path__, "fuseml.cli.")
    for name, value in vars(importlib.import_module(module.name)).items()
    if isinstance(value, list | tuple) and value and all(isinstance(item, output.Column) for item in value)
)


def active(text: str) -> set[str]:
    return (ACTIVE & set(text)) - {"\t", "\n"}


class Hostile(dict[str, Any]):
    """An object of the API with hostile text in every field that it is asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def get(self, key: str, default: Any = None) -> Any:
        return self.text

    def __getitem__(self, key: str) -> Any:
        return self.text


def test_the_tables_and_details_of_the_commands_are_found() -> None:
    assert len(VIEWS) > 10


@pytest.mark.parametrize(("module", "name"), VIEWS)
def test_tables_and_details_are_inert(module: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    columns = []
    for text in HOSTILE:
        for column in getattr(importlib.import_module(module), name):
            try:
                column.read(Hostile(text))
            except (ValueError, TypeError, AttributeError, KeyError):
                continue  # the field is no text
            columns.append(column)
            output.table([Hostile(text)], [column])
            output.print_fields(Hostile(text), [column])
            output.record(output.Format.TABLE, Hostile(text), [column])
    printed = capsys.readouterr()
    assert columns and printed.out
    assert not active(printed.out + printed.err)


@given(text=texts)
def test_printed_text_is_inert(text: str) -> None:
    assert not active(terminal.inert(text))
    assert len(terminal.inert(text)) == len(text)
    for error in (errors.NotFoundError(text), errors.InvalidError(text, [errors.Problem(text, text, 1, 1, text)])):
        assert not active("".join(map(terminal.inert, failure.lines(error))))


@given(text=texts)
def test_what_rich_prints_is_inert(text: str) -> None:
    console = output.console()
    console.file = io.StringIO()
    run: Any = {
        "name": text,
        "state": "failed",
        "cause": text,
        "project": text,
        "codeset": text,
        "steps": [{"name": text, "state": text, "cause": text}],
    }
    for tree in progress.trees([run]):
        console.print(tree)
    console.print(text)
    assert not active(console.file.getvalue())


@given(text=texts)
def test_json_and_yaml_keep_the_value_without_active_characters(text: str) -> None:
    for format, load in ((output.Format.JSON, json.loads), (output.Format.YAML, yaml.safe_load)):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            output.dump(format, {"a": text})
        assert not active(printed.getvalue())
        assert load(printed.getvalue()) == {"a": text}


@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_only_colours_and_carriage_returns_pass_in_a_log(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    printed = "".join(terminal.log(parts))
    assert not active(re.sub(r"\x1b\[[0-9;:]*m|\r", "", printed))
    assert printed == "".join(terminal.log([text]))


def test_a_colour_passes_in_a_log_and_ends_with_it() -> None:
    assert "".join(terminal.log(["a \x1b[3", "1mred\n", "\x1b[2Jb"])) == "a \x1b[31mred\n\u241b[2Jb\x1b[0m"


def test_commands_print_through_the_terminal_module_only() -> None:
    printing = {
        (path.name, name) for path in pathlib.Path(cli.__path__[0]).rglob("*.py") for name in _printing(ast.parse(path.read_text()))
    }
    assert printing == {
        ("terminal.py", "typer.echo"),
        ("terminal.py", "typer.confirm"),
        ("terminal.py", "typer.prompt"),
        ("output.py", "typer.echo"),
        ("step_logs.py", "typer.echo"),
    }


@given(text=texts)
def test_a_question_is_inert(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        asked: list[str] = []
        patch.setattr(typer, "confirm", lambda question, **_: asked.append(question))
        terminal.confirm(f"Delete {text}?")
    assert not active(asked[0])


_PRINTING = {
    *("typer.echo", "typer.secho", "typer.confirm", "typer.prompt", "click.confirm", "click.prompt", "click.echo"),
    *("input", "print", "rich.print", "Console", "sys.stdout.write", "sys.stderr.write"),
}


def _printing(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in _PRINTING:
                yield name
