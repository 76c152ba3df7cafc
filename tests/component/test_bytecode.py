"""Environments hold the bytecode of what their steps import, so that confined processes, which cannot write it, compile nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuseml.processes import landlock
from fuseml.steps import bytecode
from tests import commands
from tests.waiting import wait_until

from . import steps, wheels
from .test_environments import BACKEND, build

# Reads everything and writes nothing, as a step in the folder of environments.
CONFINED = """
import os, sys
from fuseml.processes import landlock
landlock.confine([("/", landlock.READ)], landlock.abi())
os.execv(sys.argv[1], sys.argv[1:])
"""
# The files that a process compiles.
COMPILED = """
import importlib, importlib.machinery, json, sys
loader, compiled = importlib.machinery.SourceFileLoader, []
compile_source = loader.source_to_code
def noted(self, data, path, **options):
    compiled.append(path)
    return compile_source(self, data, path, **options)
loader.source_to_code = noted
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(compiled))
"""
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock of ABI 2 or newer")


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return wheels.folder(tmp_path / "links")


def add(links: Path, name: str, source: str) -> None:
    """Add the wheel of a package with one module."""
    file, content = wheels.wheel(name, "1.0", name, source)
    (links / file).write_bytes(content)


def compiled(environment: Path, *names: str) -> list[str]:
    """The files that a confined process of the environment compiles when it imports the modules."""
    python = environment / "bin" / "python"
    return list(json.loads(commands.python(CONFINED, python, "-I", "-c", COMPILED, *names).stdout))


@needs_landlock
def test_a_confined_process_of_an_environment_compiles_nothing_that_its_steps_import(tmp_path: Path, links: Path) -> None:
    add(links, "unused", "ANSWER = 42\n")
    train = "import tiny_ml\ndef train():\n    from torch import STAND_IN\n"
    codeset = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow\ntiny-ml\ntorch\nunused\n", train__py=train)
    ended, environment = build(codeset, links, PYTHONDONTWRITEBYTECODE="1")
    assert ended.code == 0, ended.err
    assert "bytecode written in" in ended.out
    assert compiled(environment, "fuseml.steps.mlflow_trainer", "mlflow", "yaml", "tiny_ml", "torch") == []
    assert [Path(path).name for path in compiled(environment, "unused")] == ["unused.py"]


def test_a_build_imports_no_module_of_the_codeset(tmp_path: Path, links: Path) -> None:
    """Their import may be the training: those of the checkout, and of a package that is installed from it."""
    codeset = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow\n.\n", train__py="import mine, theirs, train\n")
    (codeset / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    (codeset / "backend.py").write_text(
        BACKEND.replace('"mine.py")', '"mine.py", "mine.py")\n        archive.write("mine.py", "theirs.py")')
    )
    imported = tmp_path / "imported"
    (codeset / "mine.py").write_text(f"open({str(imported)!r}, 'a').write(__name__)\n")
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert not imported.exists()
    commands.run([environment / "bin" / "python", "-I", "-c", "import mine, theirs"])
    assert imported.read_text() == "minetheirs"


@needs_landlock
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise SystemExit(7)", "bytecode written in"),
        ("import os; os._exit(7)", "note: the import of the packages ended with exit code 7; steps compile the rest each time"),
    ],
)
def test_a_package_that_ends_the_process_of_its_import_does_not_end_the_build(
    source: str, message: str, tmp_path: Path, links: Path
) -> None:
    add(links, "ending", source)
    codeset = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow\nending\n", train__py="import ending\n")
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert message in ended.out
    assert compiled(environment, "mlflow", "yaml") == []


def test_a_builder_that_is_killed_during_the_imports_leaves_nothing_that_counts_as_an_environment(tmp_path: Path, links: Path) -> None:
    block, started, place = tmp_path / "block", tmp_path / "started", tmp_path / "environments"
    add(links, "slow", f"import os, time\nopen({str(started)!r}, 'w')\nwhile os.path.exists({str(block)!r}): time.sleep(0.05)\n")
    codeset = steps.codeset(tmp_path / "codeset", requirements__txt="mlflow\nslow\n", train__py="import slow\n")
    given = {"FUSEML_ENVIRONMENTS": str(place), "FUSEML_INDEX_URL": "none", "FUSEML_FIND_LINKS": str(links)}
    block.touch()
    with subprocess.Popen(
        steps.command("mlflow_builder"),
        cwd=codeset,
        env=steps.environment(codeset, given),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_until(started.exists, "the import to start")
        os.killpg(process.pid, signal.SIGKILL)  # as an engine does, with all descendants
    assert [path.name for path in place.iterdir() if path.is_dir() and not path.name.endswith(".partial")] == []
    block.unlink()
    ended, environment = build(codeset, links)
    assert ended.code == 0, ended.err
    assert (environment / "bin" / "run").is_file()


def test_an_import_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import time; time.sleep(1000)'\n")
    python.chmod(0o755)
    monkeypatch.setattr(bytecode, "_SECONDS", 0.1)
    bytecode.write(str(python), steps.codeset(tmp_path / "codeset"))
    assert capsys.readouterr().out == "note: the packages were not imported within 0.1 s; steps compile the rest each time\n"


def test_the_imports_of_a_codeset_are_those_of_its_python_files_without_its_own_modules(tmp_path: Path) -> None:
    train = (
        "import a.b as c, own\nfrom d.e import f\nfrom . import g\nfrom .own import h\nif False:\n    from k import *\nimport package.own\n"
    )
    codeset = steps.codeset(tmp_path / "codeset", train__py=train, own__py="import train, m", broken__py="import (", null__py="\0")
    (codeset / "package").mkdir()
    (codeset / "package" / "__init__.py").write_text("import n")
    os.mkfifo(codeset / "pipe.py")
    assert bytecode.imported(codeset) == ["a.b", "d.e", "k", "m", "n"]
