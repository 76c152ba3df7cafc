"""Trains the codesets of the table as an engine does, and compares the predictions of their models."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import commands
from tests.component import steps
from tests.projects.table import CODESETS, Project
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
TRAINER = steps.command("mlflow_trainer")


class Scorer:
    """The process of `scoring`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def predictions(self, uri: str) -> dict[str, list[float]]:
        """The predictions of the model, loaded `direct`ly and `served`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{uri}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        answer: dict[str, list[float]] = json.loads(line)
        return answer


@contextlib.contextmanager
def scoring(python: str, tracking: str, folder: Path, variables: dict[str, str]) -> Iterator[Scorer]:
    """A scorer on this interpreter, with its log in the folder."""
    log = folder / "log"
    command = [python, "-P", str(Path(__file__).with_name("scoring.py"))]
    environment = {**variables, "MLFLOW_TRACKING_URI": tracking}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        yield Scorer(process, log)


def checkout(project: Project, parent: Path) -> Path:
    """A copy of the codeset, as an engine checks it out. Links to the program that several codesets share become files.

    Returns the working folder of the steps.
    """
    root = parent / project.name
    shutil.copytree(CODESETS / project.name, root)
    return root / project.folder


def inputs(project: Project) -> dict[str, str]:
    """The variables of the project's inputs."""
    given = {"FUSEML_" + name.upper().replace("-", "_"): value for name, value in project.inputs.items()}
    return {**given, "FUSEML_ENV_FOLDER": project.folder, "FUSEML_ENV_CODESET": project.name}


def train(
    project: Project, folder: Path, tracking: str, command: Sequence[str] = TRAINER, patience: float = PATIENCE
) -> steps.CompletedStep:
    """Run the trainer on the codeset in the folder."""
    results = steps.results_of(folder)
    variables = steps.environment(folder, {**inputs(project), "MLFLOW_TRACKING_URI": tracking})
    ended = commands.run(list(command), cwd=folder, environment=variables, code=None, patience=patience)
    outputs = {file.name: file.read_text() for file in results.iterdir()} if results.exists() else {}
    return steps.CompletedStep(ended.returncode, ended.stdout, ended.stderr, outputs)


def check(project: Project, ended: steps.CompletedStep, scorer: Scorer) -> None:
    """The training had the outcome of the table, and its model predicts alike, loaded directly and served."""
    assert ended.code == 0, ended.out + ended.err
    metrics = json.loads(ended.outputs["metrics"])
    assert {name: metrics.get(name) for name in project.metrics} == project.metrics
    assert ended.outputs["model"].startswith(project.model)
    predicted = scorer.predictions(ended.outputs["model"])
    assert len(predicted["direct"]) == 3
    assert predicted["served"] == predicted["direct"]
