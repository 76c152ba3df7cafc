"""Each kind of repository through builder, trainer and model server, in the environment of the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.steps import mlflow_builder
from tests.component import steps
from tests.projects import running
from tests.projects.table import HEADER, PROJECTS, Project

SATISFIED = {"poetry", "pipfile"}
"""Heavy codesets whose dependencies the environment of the tests has."""
LIGHT = [project for project in PROJECTS if not project.heavy]
pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")


@pytest.fixture(scope="module")
def scorer(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Scorer]:
    with running.scoring(sys.executable, mlflow_server, tmp_path_factory.mktemp("scoring"), steps.BARE) as process:
        yield process


@pytest.mark.parametrize("project", [item for item in LIGHT if not item.cause], ids=lambda item: item.name)
def test_a_repository_is_trained_and_its_model_is_served(
    project: Project, mlflow_server: str, scorer: running.Scorer, tmp_path: Path
) -> None:
    running.check(project, running.train(project, running.checkout(project, tmp_path), mlflow_server), scorer)


@pytest.mark.parametrize(
    "project", [item for item in PROJECTS if not item.cause and (not item.heavy or item.name in SATISFIED)], ids=lambda item: item.name
)
def test_the_environment_of_the_tests_satisfies_a_repository(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(running.checkout(project, tmp_path))
    monkeypatch.setenv("FUSEML_ENV_FOLDER", project.folder)
    monkeypatch.setenv("FUSEML_ENV_RESULTS", str(tmp_path / "results"))
    mlflow_builder.main()
    assert (tmp_path / "results" / "image").read_text() == "fuseml.local/mlflow-trainer:host"


@pytest.mark.parametrize("project", [item for item in LIGHT if item.cause], ids=lambda item: item.name)
def test_a_repository_that_is_not_clear_is_refused_before_it_is_trained(project: Project, mlflow_server: str, tmp_path: Path) -> None:
    ended = running.train(project, running.checkout(project, tmp_path), mlflow_server)
    assert (ended.code, ended.err, ended.outputs) == (1, f"{project.cause}\n", {})


def test_the_documentation_shows_the_table() -> None:
    table = HEADER + "".join(f"{project.row}\n" for project in PROJECTS)
    assert table in (running.ROOT / "docs" / "projects.md").read_text(encoding="utf-8")
