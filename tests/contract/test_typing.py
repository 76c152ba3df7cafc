"""The package is typed: a program that uses the client passes `mypy --strict`, and a wrong one does not."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

from tests import commands
from tests.waiting import SCENARIO_PATIENCE

PROGRAM = pathlib.Path(__file__).parents[1] / "typing" / "client_program.py"


def mypy(program: pathlib.Path, code: int) -> subprocess.CompletedProcess[str]:
    """mypy as a user runs it: beside the program, with the installed package and without this repository's configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.mypy_cache", program.name]
    return commands.run(command, cwd=program.parent, code=code, patience=SCENARIO_PATIENCE)


def test_a_typed_program_passes_and_a_mistake_in_it_is_found(tmp_path: pathlib.Path) -> None:
    program = tmp_path / PROGRAM.name
    shutil.copy(PROGRAM, program)
    mypy(program, code=0)

    text = program.read_text()
    wrong = text.replace('workflow=run["workflow"]', 'workflow=run["flow"]').replace("dead=True, limit=10", 'dead=True, limit="10"')
    program.write_text(wrong)
    result = mypy(program, code=1)
    assert 'TypedDict "Run" has no key "flow"' in result.stdout
    assert 'Argument "limit" to "list" of "Events" has incompatible type "str"' in result.stdout
