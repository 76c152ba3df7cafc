"""`fuseml demo` in the environment of a new user."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests import commands
from tests.waiting import SCENARIO_PATIENCE

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


def test_the_demo_succeeds_and_leaves_no_process_or_file_behind(tmp_path: pathlib.Path) -> None:
    home, temporary = tmp_path / "user", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "LANG": "C.UTF-8"}

    process = commands.fuseml("demo", environment=environment, patience=SCENARIO_PATIENCE)

    assert "mlflow-e2e-2  succeeded" in process.stdout
    processes = commands.run(["ps", "-e", "-o", "args="]).stdout
    assert str(temporary) not in processes
    assert list(temporary.iterdir()) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
