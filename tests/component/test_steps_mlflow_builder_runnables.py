"""The runnables that the builder describes: those of a codeset, in its environment, with the parameters of its MLproject."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from fuseml.domain import outputs
from fuseml.domain.runnables import variants
from tests.component import steps

HOST = "fuseml.local/mlflow-trainer:host"
PROJECT = """\
name: made
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.1}
      rows: float
      broken: {type: float, default: many}
      title: {default: first}
      template: {default: "{{ x }}"}
      model: {default: forest}
      max-depth: {type: float, default: 3}
      max_depth: {type: float, default: 3}
    command: "python train.py"
"""


@pytest.fixture
def codeset(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "train.py").write_text("")
    (folder / "MLproject").write_text(PROJECT)
    return folder


def test_the_example_gets_a_trainer_with_its_parameter_and_a_predictor(tmp_path: pathlib.Path) -> None:
    folder = shutil.copytree(steps.EXAMPLE, tmp_path / "sklearn-diabetes")
    ended = steps.run("mlflow_builder", folder, FUSEML_RUNNABLES="true")
    assert (ended.code, ended.outputs["image"]) == (0, HOST), ended.err
    trainer, predictor = variants.read(ended.outputs["runnables"])
    assert (trainer.name, trainer.kind, trainer.version) == ("sklearn-diabetes-trainer", "trainer", "1.0.0")
    alpha, image = trainer.input("alpha"), trainer.input("image")
    assert alpha is not None
    assert (alpha.type, alpha.default) == ("number", "0.1")
    assert image is not None
    assert (image.default, image.needs_value, trainer.image) == (HOST, False, "{{ inputs.image }}")
    assert [item.name for item in trainer.extensions] == ["mlflow-tracking", "model-store"]
    runtime = predictor.input("runtime")
    assert runtime is not None
    assert (predictor.name, runtime.default) == ("sklearn-diabetes-predictor", HOST)


def test_parameters_keep_their_types_and_none_takes_the_place_of_an_input_of_the_trainer(codeset: pathlib.Path) -> None:
    ended = steps.run("mlflow_builder", codeset, FUSEML_RUNNABLES="true")
    trainer = variants.read(ended.outputs["runnables"])[0]
    found = {item.name: (item.type, item.default, item.optional) for item in trainer.inputs[8:]}
    assert found == {
        "alpha": ("number", "0.1", False),
        "rows": ("number", None, True),
        "broken": ("number", None, True),
        "title": ("string", "first", False),
        "template": ("string", None, True),
        "max-depth": ("number", "3", False),
    }


def test_too_many_parameters_are_left_to_the_workflow(codeset: pathlib.Path) -> None:
    many = "\n".join(f"      parameter_{number}: {{type: float, default: {number}}}" for number in range(60))
    (codeset / "MLproject").write_text(f"name: made\nentry_points:\n  main:\n    parameters:\n{many}\n    command: python train.py\n")
    ended = steps.run("mlflow_builder", codeset, FUSEML_RUNNABLES="true")
    assert "too many to register" in ended.out
    assert len(variants.read(ended.outputs["runnables"])) == 2
    assert outputs.size({name: text.encode() for name, text in ended.outputs.items()}) <= outputs.LIMIT


def test_a_codeset_without_a_program_makes_none_and_its_environment_is_built(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    ended = steps.run("mlflow_builder", folder, FUSEML_RUNNABLES="true")
    assert (ended.code, json.loads(ended.outputs["runnables"])) == (0, [])
    assert "no runnables are registered" in ended.out
    assert "runnables" not in steps.run("mlflow_builder", folder).outputs
