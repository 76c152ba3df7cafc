"""`fuseml demo` as a new user runs it: it does what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


def test_the_demo_does_what_it_promises_and_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    home, temporary = tmp_path / "user", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "LANG": "C.UTF-8"}

    done = subprocess.run(
        [sys.executable, "-m", "fuseml.cli.main", "demo"], env=environment, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "mlflow-e2e-2  succeeded" in done.stdout
    processes = subprocess.run(["ps", "-e", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(temporary) not in processes
    assert list(temporary.iterdir()) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
