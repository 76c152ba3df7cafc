"""Repositories whose environments the builder makes of packages from an index: `task projects` runs them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from fuseml.domain.runs import causes
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


def built(project: Project, folder: Path, environments: Path) -> str:
    """Build the environment of the codeset; the tag of its image."""
    variables = steps.environment(folder, {**running.inputs(project), "FUSEML_ENVIRONMENTS": str(environments)})
    # The machine's own settings lead to its package index.
    commands.run(steps.command("mlflow_builder"), cwd=folder, environment={**os.environ, **variables}, patience=_PATIENCE)
    output = steps.results_of(folder) / "image"
    image = output.read_text()
    assert image.startswith(_NATIVE)
    output.unlink()
    return image.removeprefix(_NATIVE)


@pytest.mark.parametrize("project", [item for item in PROJECTS if item.heavy], ids=lambda item: item.name)
def test_a_repository_is_built_trained_and_served(project: Project, mlflow_server: str, environments: Path, tmp_path: Path) -> None:
    folder = running.checkout(project, tmp_path)
    tag = built(project, folder, environments)
    programs = environments / tag / "bin"
    on_host = tag == "host"

    ended = running.train(project, folder, mlflow_server, running.TRAINER if on_host else [str(programs / "run")], _PATIENCE)

    python = sys.executable if on_host else str(programs / "python")
    bare = {name: value for name, value in steps.BARE.items() if on_host or name != "PYTHONPATH"}
    with running.scoring(python, mlflow_server, tmp_path, bare) as scorer:
        running.check(project, ended, scorer)


def test_a_failed_notebook_is_kept_and_the_cause_names_its_cell(mlflow_server: str, environments: Path, tmp_path: Path) -> None:
    project = next(item for item in PROJECTS if item.name == "notebook")
    folder = running.checkout(project, tmp_path)
    [file] = folder.glob("*.ipynb")
    notebook = json.loads(file.read_text())
    cell: dict[str, object] = {"cell_type": "code", "execution_count": None, "id": "failing", "metadata": {}, "outputs": []}
    notebook["cells"].append({**cell, "source": ["prices = {}\n", "prices['wine']"]})
    file.write_text(json.dumps(notebook))

    tag = built(project, folder, environments)
    ended = running.train(project, folder, mlflow_server, [str(environments / tag / "bin" / "run")], _PATIENCE)

    assert ended.code == 1
    cause = causes.explain(causes.ORDINARY, ended.out + ended.err, [str(folder)])
    number = sum(item["cell_type"] == "code" for item in notebook["cells"])
    # papermill adds a cell with the parameters.
    assert re.fullmatch(rf"KeyError: 'wine' \(In\[{number + 1}\]:2\)", cause)
    kept = re.search(r"the executed notebook is the artifact (notebooks/\S+\.ipynb) of the MLflow run (\w+)", ended.out)
    assert kept is not None, ended.out
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "--run-id", kept[2], "--artifact-path", kept[1], "-d", tmp_path]
    commands.run(command, environment={**steps.BARE, "MLFLOW_TRACKING_URI": mlflow_server})
    executed = json.loads((tmp_path / Path(kept[1]).name).read_text())
    [failed] = [item for item in executed["cells"] if any(output["output_type"] == "error" for output in item.get("outputs", []))]
    assert failed["outputs"][-1]["ename"] == "KeyError"
