"""The package is typed: a program that uses the client passes `mypy --strict`, and a wrong one does not."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

from tests import commands
from tests.waiting import SCENARIO_PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "typing" / "client_program.py"
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


def mypy(program: pathlib.Path, code: int) -> subprocess.CompletedProcess[str]:
    """mypy as a user runs it: beside the program, with the installed package and without this repository's configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.mypy_cache", program.name]
    return commands.run(command, cwd=program.parent, code=code, patience=SCENARIO_PATIENCE)


def test_a_typed_program_and_the_examples_of_the_page_pass_and_a_mistake_is_found(tmp_path: pathlib.Path) -> None:
    program = tmp_path / PROGRAM.name
    text = "\n".join((PROGRAM.read_text(), *EXAMPLES))
    program.write_text(text)
    mypy(program, code=0)

    wrong = text.replace('workflow=run["workflow"]', 'workflow=run["flow"]').replace("dead=True, limit=10", 'dead=True, limit="10"')
    wrong = wrong.replace("event.outcome", "event.outcom").replace("import Client\n", "import Client, Clint\n", 1)
    program.write_text(wrong)
    result = mypy(program, code=1)
    assert 'TypedDict "Run" has no key "flow"' in result.stdout
    assert 'Argument "limit" to "list" of "Events" has incompatible type "str"' in result.stdout
    assert '"Event" has no attribute "outcom"' in result.stdout
    assert 'Module "fuseml" has no attribute "Clint"' in result.stdout
