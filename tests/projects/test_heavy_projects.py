"""Repositories whose environments the builder makes of packages from an index: `task projects` runs them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import commands
from tests.component import steps
from tests.projects import running
from tests.projects.table import PROJECTS, Project

pytestmark = [
    pytest.mark.skipif(not os.environ.get("FUSEML_TEST_PROJECTS"), reason="takes minutes and packages: `task projects`"),
    pytest.mark.timeout(3_600),
]
_PATIENCE = 1_200.0
_NATIVE = "fuseml.local/mlflow-trainer:"


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.mark.parametrize("project", [item for item in PROJECTS if item.heavy], ids=lambda item: item.name)
def test_a_repository_is_built_trained_and_served(project: Project, mlflow_server: str, environments: Path, tmp_path: Path) -> None:
    folder = running.checkout(project, tmp_path)
    variables = steps.environment(folder, {**running.inputs(project), "FUSEML_ENVIRONMENTS": str(environments)})
    # The machine's own settings lead to its package index.
    commands.run(steps.command("mlflow_builder"), cwd=folder, environment={**os.environ, **variables}, patience=_PATIENCE)
    image = (steps.results_of(folder) / "image").read_text()
    assert image.startswith(_NATIVE)
    programs = environments / image.removeprefix(_NATIVE) / "bin"
    on_host = image == f"{_NATIVE}host"

    (steps.results_of(folder) / "image").unlink()
    ended = running.train(project, folder, mlflow_server, running.TRAINER if on_host else [str(programs / "run")], _PATIENCE)

    python = sys.executable if on_host else str(programs / "python")
    bare = {name: value for name, value in steps.BARE.items() if on_host or name != "PYTHONPATH"}
    with running.scoring(python, mlflow_server, tmp_path, bare) as scorer:
        running.check(project, ended, scorer)
