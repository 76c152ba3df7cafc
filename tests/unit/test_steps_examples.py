"""The shipped examples are valid documents. The component tests run them with a real MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import fuseml
from fuseml.domain.workflows import lint, loading
from fuseml.steps import mlproject
from fuseml.steps.dependencies import checkout, discovery

EXAMPLES = Path(fuseml.__file__).parent / "examples"


@pytest.mark.parametrize("file", sorted((EXAMPLES / "workflows").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_workflow_loads_without_a_warning_and_pins_its_images(file: Path) -> None:
    workflow = loading.load(file.read_text())
    assert [finding for finding in lint.lint(workflow) if finding.level != "note"] == []
    assert workflow.name == file.stem
    for step in workflow.steps:
        assert "{{" in step.image or (":" in step.image and not step.image.endswith(":latest"))


@pytest.mark.parametrize("folder", sorted((EXAMPLES / "codesets").iterdir()), ids=lambda folder: folder.name)
def test_the_dependency_files_of_a_codeset_agree(folder: Path) -> None:
    def read(name: str) -> str:
        return (folder / name).read_text()

    project = mlproject.parse(read("MLproject"))
    assert project.name == folder.name
    main = project.entry_points["main"]
    assert main.command_line(main.values({})).startswith("python train.py")
    found = {
        discovery.environment(checkout.Folder(folder), discovery.Choices(name), _no_export).requirements
        for name in ("python_env.yaml", "conda.yaml", "requirements.txt")
    }
    assert len(found) == 1
    assert yaml.safe_load(read("MLproject"))["python_env"] == "python_env.yaml"


def _no_export(folder: Path, arguments: object) -> str:
    raise AssertionError(f"there is no lock in {folder} for uv export {arguments}")
