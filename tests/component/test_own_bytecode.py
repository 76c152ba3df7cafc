"""The server writes the bytecode of the packages that its confined steps import, where an installation left none."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from fuseml.embedded import bytecode
from tests.component.steps import PACKAGES
from tests.waiting import wait_until

SOURCES = {"numbers_/__init__.py": "", "numbers_/models/__init__.py": "from numbers_ import inner\n", "numbers_/inner.py": "ANSWER = 42\n"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages of this process, which may write bytecode, and of its children."""
    folder = tmp_path / "packages"
    for name, source in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return folder


def own(packages: Path) -> bytecode.OwnBytecode:
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join((str(packages), str(PACKAGES)))}
    return bytecode.OwnBytecode(packages.with_name("log"), variables, ["numbers_.models", "not_installed.at_all"])


def with_bytecode(packages: Path) -> set[str]:
    return {name for name in SOURCES if Path(importlib.util.cache_from_source(str(packages / name))).exists()}


def test_missing_bytecode_is_written_once_with_all_that_is_imported(packages: Path) -> None:
    first = own(packages)
    first.start()
    wait_until(lambda: not first.running, "the imports to end")
    assert with_bytecode(packages) == set(SOURCES), packages.with_name("log").read_text()
    first.stop()
    again = own(packages)
    again.start()
    assert not again.running
    again.stop()


def test_a_stop_ends_the_imports(packages: Path) -> None:
    (packages / "numbers_" / "inner.py").write_text("import time\nopen('started', 'w')\ntime.sleep(1000)\n")
    first = own(packages)
    first.start()
    wait_until((packages.parent / "started").exists, "the import to start")
    first.stop()
    assert not first.running


@pytest.mark.parametrize("reason", ["the user wants none", "the folder is read-only"])
def test_nothing_is_imported_where_bytecode_may_not_be_written(reason: str, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason == "the user wants none":
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    unwanted = own(packages)
    unwanted.start()
    assert not unwanted.running
    unwanted.stop()
    assert with_bytecode(packages) == set()
