"""Runs a built-in step as an engine does: a process in a checkout, with the variables of the step contract."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuseml
from tests import commands
from tests.waiting import PATIENCE

PACKAGES = Path(fuseml.__file__).parents[1]
EXAMPLE = PACKAGES / "fuseml" / "examples" / "codesets" / "sklearn-diabetes"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# The only inherited variables: none of the developer's own may decide a test.
BARE = {
    **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")},
    "PYTHONPATH": str(PACKAGES),
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class CompletedStep:
    """Exit code, output and results of a step."""

    code: int
    out: str
    err: str
    outputs: dict[str, str]


def environment(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    run = {"RUN": "mlflow-e2e-1", "WORKFLOW_NAME": "mlflow-e2e", "PROJECT": "workspace", "CODESET": folder.name, "COMMIT": COMMIT}
    results = {"FUSEML_ENV_RESULTS": str(results_of(folder))}
    return {**BARE, **{f"FUSEML_ENV_{key}": value for key, value in run.items()}, **results, **variables}


def results_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.results")


def command(module: str) -> list[str]:
    """The command of a module of `fuseml.steps`, or of one by its whole name."""
    return [sys.executable, "-P", "-m", module if "." in module else f"fuseml.steps.{module}"]


def run(module: str, folder: Path, **variables: str) -> CompletedStep:
    results = results_of(folder)
    shutil.rmtree(results, ignore_errors=True)
    ended = commands.run(command(module), cwd=folder, environment=environment(folder, variables), code=None)
    outputs = {file.name: file.read_text() for file in results.iterdir()} if results.exists() else {}
    return CompletedStep(ended.returncode, ended.stdout, ended.stderr, outputs)


def codeset(folder: Path, **files: str) -> Path:
    """A checkout with these files; `__` in a name is a dot."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def call(url: str, body: object = None, **query: str) -> Any:
    """The response of a JSON API. Raises HTTPError."""
    data = None if body is None else json.dumps(body).encode()
    address = url + ("?" + urllib.parse.urlencode(query) if query else "")
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": "application/json"}), timeout=PATIENCE) as answer:
        return json.load(answer)
