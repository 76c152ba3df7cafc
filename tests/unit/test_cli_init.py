"""`fuseml init`: a codeset and a workflow to start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fuseml.cli import main
from fuseml.domain.workflows.lint import lint_text
from tests import commands

FILES = {
    "script": ["requirements.txt", "train.py", "workflow.yaml"],
    "mlproject": ["MLproject", "python_env.yaml", "requirements.txt", "train.py", "workflow.yaml"],
    "notebook": ["requirements.txt", "train.ipynb", "workflow.yaml"],
}


def init(home: Path, *words: str) -> int:
    return main.run(["init", *words], {"FUSEML_CONFIG": str(home / "config.yaml"), "FUSEML_HOME": str(home)})


@pytest.mark.parametrize("template", FILES)
def test_a_template_has_code_and_a_workflow_of_its_name(template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "my study"
    assert init(tmp_path, template, str(place)) == 0
    assert sorted(path.name for path in place.iterdir()) == FILES[template]
    workflow = (place / "workflow.yaml").read_text()
    assert yaml.safe_load(workflow)["name"] == "my-study"
    assert [finding for finding in lint_text(workflow) if finding.level == "error"] == []
    assert "NAME" not in "".join(path.read_text() for path in place.iterdir())
    shown = capsys.readouterr().out
    assert f"fuseml push {place} -n my-study -p PROJECT\n" in shown
    assert "fuseml workflow assign my-study -p PROJECT -c my-study --wait\n" in shown


def test_the_code_of_a_script_and_of_a_notebook_is_complete(tmp_path: Path) -> None:
    init(tmp_path, "notebook", str(tmp_path / "n"), "-n", "wine")
    notebook = json.loads((tmp_path / "n" / "train.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"].get("tags") for cell in cells] == [["parameters"], None, None]
    compile("\n".join("".join(cell["source"]) for cell in cells), "train.ipynb", "exec")
    pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")
    init(tmp_path, "script", str(tmp_path / "s"), "-n", "wine")
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/runs.db", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    code = "import runpy; runpy.run_path('train.py', run_name='__main__')"
    ended = commands.python(code, "--alpha", "0.5", environment=environment, cwd=tmp_path / "s")
    assert "Created version '1' of model 'wine'" in ended.stderr + ended.stdout


def test_existing_files_are_never_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "wine"
    place.mkdir()
    (place / "train.py").write_text("mine\n")
    assert init(tmp_path, "script", str(place)) == 1
    assert capsys.readouterr().err == f"error: {place} has a train.py already; choose another folder: fuseml init script FOLDER\n"
    assert [path.name for path in place.iterdir()] == ["train.py"]
    # What a killed call has left is completed.
    (place / "train.py").unlink()
    assert init(tmp_path, "script", str(place)) == 0
    (place / "workflow.yaml").unlink()
    assert init(tmp_path, "script", str(place)) == 0
    assert sorted(path.name for path in place.iterdir()) == FILES["script"]


@pytest.mark.parametrize(("words", "code"), [(["script", "x", "-n", "a b"], 1), (["fortran"], 2)])
def test_a_wrong_name_or_template_writes_nothing(words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(tmp_path, *words) == code
    assert list(tmp_path.iterdir()) == []
