"""Each kind of repository through trainer and model server: the served predictions are those of the model loaded directly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.steps import mlflow_builder
from tests.component import steps
from tests.projects.table import CODESETS, HEADER, PROJECTS, Project

ROOT = Path(__file__).parents[2]
UNREAD = {"script-only", "pyproject", "poetry", "pipfile", "setup-py"}
"""Codesets whose environment the builder does not find yet."""
LIGHT = [project for project in PROJECTS if not project.heavy]
pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


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


@pytest.fixture(scope="module")
def scorer(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    log = tmp_path_factory.mktemp("scoring") / "log"
    command = [sys.executable, "-m", "tests.projects.scoring"]
    variables = {**steps.BARE, "PYTHONPATH": os.pathsep.join((steps.BARE["PYTHONPATH"], str(ROOT))), "MLFLOW_TRACKING_URI": mlflow_server}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=log.parent, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        yield Scorer(process, log)


def checkout(project: Project, parent: Path) -> Path:
    """A copy of the codeset, as an engine checks it out. Returns the working folder of its steps."""
    root = parent / project.name
    shutil.copytree(CODESETS / project.name, root)
    return root / project.folder


def train(project: Project, folder: Path, tracking: str) -> steps.CompletedStep:
    given = {"FUSEML_" + name.upper().replace("-", "_"): value for name, value in project.inputs.items()}
    variables = {"MLFLOW_TRACKING_URI": tracking, "FUSEML_ENV_FOLDER": project.folder, "FUSEML_ENV_CODESET": project.name}
    return steps.run("mlflow_trainer", folder, **variables, **given)


@pytest.mark.parametrize("project", [item for item in LIGHT if not item.cause], ids=lambda item: item.name)
def test_a_repository_is_trained_and_its_model_is_served(
    project: Project,
    mlflow_server: str,
    scorer: Scorer,
    tmp_path: Path,
) -> None:
    ended = train(project, checkout(project, tmp_path), mlflow_server)

    assert ended.code == 0, ended.out + ended.err
    metrics = json.loads(ended.outputs["metrics"])
    assert {name: metrics.get(name) for name in project.metrics} == project.metrics
    assert ended.outputs["model"].startswith(project.model)
    predicted = scorer.predictions(ended.outputs["model"])
    assert len(predicted["direct"]) == 3
    assert predicted["served"] == predicted["direct"]


@pytest.mark.parametrize(
    "project",
    [
        pytest.param(
            item, marks=[pytest.mark.xfail(strict=True, reason="the builder does not read its file")] if item.name in UNREAD else []
        )
        for item in PROJECTS
        if not item.cause and (not item.heavy or item.name in UNREAD)
    ],
    ids=lambda item: item.name,
)
def test_the_environment_of_the_tests_satisfies_a_repository(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkout(project, tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FUSEML_ENV_FOLDER", project.folder)
    monkeypatch.setenv("FUSEML_ENV_RESULTS", str(tmp_path / "results"))
    mlflow_builder.main()
    assert (tmp_path / "results" / "image").read_text() == "fuseml.local/mlflow-trainer:host"


@pytest.mark.parametrize("project", [item for item in LIGHT if item.cause], ids=lambda item: item.name)
def test_a_repository_that_is_not_clear_is_refused_before_it_is_trained(project: Project, mlflow_server: str, tmp_path: Path) -> None:
    ended = train(project, checkout(project, tmp_path), mlflow_server)
    assert (ended.code, ended.err, ended.outputs) == (1, f"{project.cause}\n", {})


def test_the_documentation_shows_the_table() -> None:
    table = HEADER + "".join(f"{project.row}\n" for project in PROJECTS)
    assert table in (ROOT / "docs" / "projects.md").read_text(encoding="utf-8")
